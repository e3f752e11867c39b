"""
The log of a state file, written back into the database while others go on writing.

That is a checkpoint, which takes as long as the disk needs for a thousand pages and two fsync(2):
hundredths of a second. Nobody who writes waits for it (https://www.sqlite.org/wal.html, section
2.2), so it is done by a connection and a thread of its own. The log begins anew with the first
transaction after a checkpoint during which there was none.
"""

import contextlib
import sqlite3
import threading
from typing import Final

from policyd.store.sqlite_file import StateFile


class SqliteLog:
    """
    The log of the file that is open: made right after it was opened, closed before it is.

    The connection is of that file, whatever has its name later.
    """

    def __init__(self, file: StateFile) -> None:
        """Open another connection; sqlite3.Error."""
        self._connection: Final = file.writer()
        self._thread: threading.Thread | None = None
        try:
            # the first look opens the database and its log
            self._connection.execute("SELECT id FROM asked").fetchone()
        except BaseException:
            self._connection.close()
            raise

    @property
    def busy(self) -> bool:
        """Whether it is being written back."""
        return self._thread is not None and self._thread.is_alive()

    def write_back(self) -> None:
        """Begin to write it back, unless that is being done, and do not wait for the end."""
        if not self.busy:
            self._thread = threading.Thread(target=self._checkpoint, name="state-log", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Wait until it has been written back, and let go of it."""
        if self._thread is not None:
            self._thread.join()
        self._connection.close()

    def _checkpoint(self) -> None:
        # whatever is wrong with the file, whoever writes the next time is told
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
