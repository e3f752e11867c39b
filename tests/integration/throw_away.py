"""The smallest policy server and milter that Postfix can talk with, to try the harness alone."""

import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

LISTS = ("client", "helo", "sender", "relay", "recipient", "data", "end_of_data", "etrn")


class ThrowAwayServer(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, handler: type[socketserver.StreamRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class PolicyServer(ThrowAwayServer):
    """Answers 450 4.2.1 for a recipient grey@…, HOLD for hold@…, else DUNNO; keeps the requests."""

    def __init__(self) -> None:
        super().__init__(PolicyHandler)
        self.requests: list[dict[str, str]] = []

    def asked(self) -> list[tuple[str, str]]:
        """Return state and context of the requests since the last call."""
        asked = [(r["protocol_state"], r["policy_context"]) for r in self.requests]
        self.requests.clear()
        return asked


class PolicyHandler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        request: dict[str, str] = {}
        for line in self.rfile:
            name, _, value = line.decode().rstrip("\n").partition("=")
            if name:
                request[name] = value
                continue
            assert isinstance(self.server, PolicyServer)
            self.server.requests.append(request)
            actions = {"grey": "450 4.2.1 Come back later", "hold": "HOLD for a look"}
            action = actions.get(request["recipient"].partition("@")[0], "DUNNO")
            self.wfile.write(f"action={action}\n\n".encode())
            request = {}


class MilterHandler(socketserver.StreamRequestHandler):
    """Says continue to everything but MAIL FROM:<refused@…>, in the milter protocol's packets."""

    def handle(self) -> None:
        while header := self.rfile.read(4):
            packet = self.rfile.read(struct.unpack("!I", header)[0])
            command, content = packet[:1], packet[1:]
            if command == b"O":
                self.answer(b"O" + struct.pack("!III", 6, 0, 0))
            elif command == b"M" and content.lstrip(b"<").startswith(b"refused@"):
                self.answer(b"y550 5.7.1 Not from you\0")
            elif command not in b"DAQK":
                self.answer(b"c")

    def answer(self, packet: bytes) -> None:
        self.wfile.write(struct.pack("!I", len(packet)) + packet)


@contextmanager
def serving(server: ThrowAwayServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.block_on_close = False  # Postfix may still hold an idle connection
        server.server_close()


def policy_service(port: int, context: str) -> str:
    return f"check_policy_service {{ inet:127.0.0.1:{port}, policy_context={context} }}"


def asking_everywhere(port: int) -> dict[str, str]:
    restrictions = {
        f"smtpd_{name}_restrictions": policy_service(port, f"list={name}") for name in LISTS
    }
    restrictions["smtpd_relay_restrictions"] += ",\n    reject_unauth_destination"
    return restrictions
