"""Private Postfix instances for the tests that look at the real wire."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tools.postfix_instance import PostfixInstance


def short_directory() -> Path:
    # Not pytest's tmp_path: it is closed to Postfix's users, and too long for a socket's path.
    directory = Path(tempfile.mkdtemp(prefix="policyd-postfix-"))
    directory.chmod(0o755)
    return directory


@pytest.fixture
def postfix_directory() -> Iterator[Path]:
    """A directory for one instance that a test starts and stops itself."""
    directory = short_directory()
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def postfix_factory() -> Iterator[Callable[..., PostfixInstance]]:
    """Start instances that run until the session ends: `postfix_factory(services=..., main=...)`.

    Further keywords are PostfixInstance's own.
    """
    with ExitStack() as at_end:

        def start(
            *,
            services: Mapping[str, Mapping[str, str]] | None = None,
            main: Mapping[str, str] | None = None,
            mailboxes: tuple[str, ...] = ("@policyd.test",),
            **others: str,
        ) -> PostfixInstance:
            directory = short_directory()
            at_end.callback(shutil.rmtree, directory)
            return at_end.enter_context(
                PostfixInstance(
                    directory, services=services, main=main, mailboxes=mailboxes, **others
                )
            )

        yield start
