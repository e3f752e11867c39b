"""
The least a policy delegation server in Python can do: a uvloop Protocol that answers DUNNO.

It counts the empty lines that end requests (SMTPD_POLICY_README); with ``--parse`` it also makes
a dictionary of each request's attributes, which any server that decides something must.
"""

import argparse
import asyncio
from typing import cast

import uvloop

ANSWER = b"action=DUNNO\n\n"
END_OF_REQUEST = b"\n\n"


class Counting(asyncio.Protocol):
    """Answers as many times as requests have ended."""

    transport: asyncio.WriteTransport
    last = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport to answer on; uvloop's own derives from none of asyncio's."""
        self.transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer; an empty line may be split between two reads."""
        ended = (self.last + data).count(END_OF_REQUEST)
        self.last = b"" if data.endswith(END_OF_REQUEST) else data[-1:]
        if ended:
            self.transport.write(ANSWER * ended)


class Parsing(Counting):
    """Reads each request's attributes before it answers."""

    unread = b""

    def data_received(self, data: bytes) -> None:
        """Answer each whole request and keep what is left."""
        self.unread += data
        while (end := self.unread.find(END_OF_REQUEST)) >= 0:
            attributes = dict(line.split("=", 1) for line in self.unread[:end].decode().split("\n"))
            self.unread = self.unread[end + len(END_OF_REQUEST) :]
            if attributes["request"] == "smtpd_access_policy":
                self.transport.write(ANSWER)


async def serve(address: str, protocol: type[Counting]) -> None:
    """Listen on ``inet:HOST:PORT`` or ``unix:/path`` until killed."""
    kind, _, endpoint = address.partition(":")
    loop = asyncio.get_running_loop()
    if kind == "unix":
        server: asyncio.AbstractServer = await loop.create_unix_server(protocol, endpoint)
    else:
        host, _, port = endpoint.rpartition(":")
        server = await loop.create_server(protocol, host.strip("[]"), int(port), backlog=1024)
    await server.serve_forever()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parse", action="store_true", help="read the attributes")
    parser.add_argument("address", help="inet:HOST:PORT or unix:/path")
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.address, Parsing if arguments.parse else Counting))


if __name__ == "__main__":
    main()
