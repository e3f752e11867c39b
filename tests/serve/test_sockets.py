"""Listening sockets: Postfix's notation, modes, what stands in the way, what is left behind."""

import grp
import os
import socket
import stat
from pathlib import Path

import pytest

from policyd.serve.sockets import Endpoint, Listener, open_listeners, parse_endpoint


class TestNotation:
    @pytest.mark.parametrize(
        ("text", "endpoint"),
        [
            ("inet:127.0.0.1:10040", Endpoint(host="127.0.0.1", port=10040)),
            ("inet:localhost:0", Endpoint(host="localhost", port=0)),
            ("inet:[::1]:10040", Endpoint(host="::1", port=10040)),
            ("inet:0.0.0.0:65535", Endpoint(host="0.0.0.0", port=65535)),
            ("unix:/run/policyd/policy.sock", Endpoint(path="/run/policyd/policy.sock")),
            ("unix:/a b:c", Endpoint(path="/a b:c")),
        ],
    )
    def test_is_read_and_written(self, text: str, endpoint: Endpoint) -> None:
        assert parse_endpoint(text) == endpoint
        assert str(endpoint) == text

    @pytest.mark.parametrize(
        "text",
        [
            *("", "inet:", "inet:10040", "inet::10040", "inet:127.0.0.1", "127.0.0.1:10040"),
            *("inet:127.0.0.1:65536", "inet:127.0.0.1:smtp", "inet:::1:10040", "inet:[]:1"),
            *("inet:127.0.0.1:10040 ", "inet:127.0.0.1:-1", "tcp:127.0.0.1:1", "inet:a:b:1"),
            *("unix:", "unix:relative", "unix:/", "unix:/dir/", "unix:/a\0b", "UNIX:/a"),
            "unix:/" + "x" * 107,
        ],
    )
    def test_of_any_other_form_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="is no endpoint such as"):
            parse_endpoint(text)

    def test_takes_the_longest_path_that_the_system_takes(self, tmp_path: Path) -> None:
        path = f"{tmp_path}/".ljust(107, "x")
        (listener,) = open_listeners(parse_endpoint(f"unix:{path}"))
        assert can_connect(path)
        close(listener)


class TestUnix:
    @pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
    def test_sockets_have_the_mode_they_should(self, tmp_path: Path, mode: int) -> None:
        path = tmp_path / "s"
        (listener,) = open_listeners(Endpoint(path=str(path)), mode=mode)
        assert stat.S_IMODE(path.stat().st_mode) == mode
        close(listener)

    def test_sockets_have_the_group_they_should(self, tmp_path: Path) -> None:
        ours = os.getgid()
        other = 4242 if os.geteuid() == 0 else ours  # only root gives a file to any group
        for group, gid in ((str(other), other), (grp.getgrgid(ours).gr_name, ours)):
            path = tmp_path / group
            (listener,) = open_listeners(Endpoint(path=str(path)), group=group)
            assert path.stat().st_gid == gid
            close(listener)

    def test_an_unknown_group_is_named_and_nothing_is_left(self, tmp_path: Path) -> None:
        with pytest.raises(LookupError, match="no group 'nobody-has-this'"):
            open_listeners(Endpoint(path=f"{tmp_path}/s"), group="nobody-has-this")
        assert list(tmp_path.iterdir()) == []

    def test_a_stale_socket_is_replaced(self, tmp_path: Path) -> None:
        path = tmp_path / "s"
        (stale,) = open_listeners(Endpoint(path=str(path)))
        stale.socket.close()
        assert path.is_socket()
        (listener,) = open_listeners(Endpoint(path=str(path)))
        assert can_connect(str(path))
        close(listener)

    def test_a_live_socket_is_an_error_that_names_it(self, tmp_path: Path) -> None:
        path = f"{tmp_path}/s"
        (live,) = open_listeners(Endpoint(path=path))
        with pytest.raises(OSError, match=f"another server listens on this socket: 'unix:{path}'"):
            open_listeners(Endpoint(path=path))
        assert can_connect(path)
        close(live)

    def test_a_live_socket_whose_queue_is_full_is_one_too(self, tmp_path: Path) -> None:
        path = f"{tmp_path}/s"
        (live,) = open_listeners(Endpoint(path=path), backlog=0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(path)
            with pytest.raises(OSError, match="another server listens"):
                open_listeners(Endpoint(path=path))
        close(live)

    @pytest.mark.parametrize("kind", ["file", "directory", "link"])
    def test_what_is_no_socket_stays(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "s"
        if kind == "file":
            path.write_text("precious")
        elif kind == "directory":
            path.mkdir()
        else:
            path.symlink_to("/nowhere")
        with pytest.raises(FileExistsError, match="that is no socket"):
            open_listeners(Endpoint(path=str(path)))
        assert path.is_symlink() or path.exists()

    def test_a_missing_directory_is_an_error_that_names_the_endpoint(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=f"unix:{tmp_path}/no/s"):
            open_listeners(Endpoint(path=f"{tmp_path}/no/s"))

    def test_a_name_that_another_server_has_taken_over_is_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "s"
        (first,) = open_listeners(Endpoint(path=str(path)))
        path.unlink()
        (second,) = open_listeners(Endpoint(path=str(path)))
        close(first)
        assert can_connect(str(path))
        close(second)
        assert not path.exists()


class TestInet:
    def test_a_port_in_use_is_an_error_that_names_the_endpoint(self) -> None:
        (live,) = open_listeners(parse_endpoint("inet:127.0.0.1:0"))
        text = f"inet:127.0.0.1:{live.socket.getsockname()[1]}"
        with pytest.raises(OSError, match=f"Address already in use: '{text}'"):
            open_listeners(parse_endpoint(text))
        close(live)

    def test_an_unknown_host_is_an_error_that_names_the_endpoint(self) -> None:
        with pytest.raises(OSError, match=r"inet:no-such-host\.invalid:1"):
            open_listeners(parse_endpoint("inet:no-such-host.invalid:1"))

    def test_an_address_of_another_host_is_an_error(self) -> None:
        with pytest.raises(OSError, match=r"inet:192\.0\.2\.1:0"):
            open_listeners(parse_endpoint("inet:192.0.2.1:0"))

    def test_a_port_is_free_again_at_once(self) -> None:
        (first,) = open_listeners(parse_endpoint("inet:127.0.0.1:0"))
        address = first.socket.getsockname()
        with socket.create_connection(address) as peer:
            accepted, _ = first.socket.accept()
            accepted.close()  # the server's end closes first, and waits (TIME_WAIT)
            assert peer.recv(1) == b""
        close(first)
        (second,) = open_listeners(Endpoint(host=address[0], port=address[1]))
        close(second)

    def test_a_name_listens_on_each_of_its_addresses(self) -> None:
        expected = {item[4][0] for item in socket.getaddrinfo("localhost", 0, type=1)}
        listeners = open_listeners(parse_endpoint("inet:localhost:0"))
        found = {listener.socket.getsockname()[0] for listener in listeners}
        for listener in listeners:
            close(listener)
        assert "127.0.0.1" in found
        assert found <= expected


def close(listener: Listener) -> None:
    listener.remove()
    listener.socket.close()


def can_connect(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0
