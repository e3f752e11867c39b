"""The harness that runs a private Postfix starts it, stops it and tells what is wrong with it."""

import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.integration.throw_away import PolicyServer, asking_everywhere, serving
from tools import postfix_instance
from tools.postfix_instance import PostfixError, PostfixInstance
from tools.smtp_dialogue import SmtpDialogue

pytestmark = pytest.mark.integration

SYSTEM_POSTFIX = (Path("/etc/postfix"), Path("/var/spool/postfix"), Path("/var/lib/postfix"))


def snapshot(*trees: Path) -> dict[Path, tuple[int, ...]]:
    return {
        path: (status.st_ino, status.st_mode, status.st_uid, status.st_size, status.st_mtime_ns)
        for tree in trees
        for path in (tree, *tree.rglob("*"))
        for status in (path.lstat(),)
    }


def processes_of(directory: Path) -> list[str]:
    """Find live processes that work in the directory or name it in their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text("utf-8", "replace").replace("\0", " ")
            works_in = str((process / "cwd").readlink())
        except OSError:  # ended meanwhile, or a zombie
            continue
        if str(directory) in command + works_in and process.name != str(os.getpid()):
            found.append(command)
    return found


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


class TestLife:
    def test_nothing_is_left_running_and_nothing_is_written_outside(
        self, postfix_directory: Path, record_testsuite_property: Callable[[str, object], None]
    ) -> None:
        before = snapshot(*SYSTEM_POSTFIX)
        instance = PostfixInstance(postfix_directory / "instance", services={"a": {}, "b": {}})
        began = time.monotonic()
        instance.start()
        started = time.monotonic()

        assert processes_of(postfix_directory)
        assert [listens(port) for port in instance.ports.values()] == [True, True]

        stopping = time.monotonic()
        instance.stop()
        stopped = time.monotonic()
        assert processes_of(postfix_directory) == []
        assert [listens(port) for port in instance.ports.values()] == [False, False]
        assert snapshot(*SYSTEM_POSTFIX) == before
        assert [path.name for path in postfix_directory.iterdir()] == ["instance"]
        record_testsuite_property("postfix start, seconds", round(started - began, 2))
        record_testsuite_property("postfix stop, seconds", round(stopped - stopping, 2))

    def test_it_stops_with_sessions_open_and_messages_queued(self, postfix_directory: Path) -> None:
        with PostfixInstance(
            postfix_directory, main={"virtual_transport": "retry:full"}
        ) as postfix:
            client = SmtpDialogue(postfix.ports["smtp"])
            client.banner()
            postfix.submit("a@policyd.test", "b@policyd.test", "Subject: to stay\n\n")
            postfix.wait_log("status=deferred")

        with client:
            assert client.wait_closed(5)
        assert processes_of(postfix_directory) == []

    def test_it_stops_when_the_block_within_fails(self, postfix_directory: Path) -> None:
        with pytest.raises(ZeroDivisionError), PostfixInstance(postfix_directory):
            _ = 1 // 0

        assert processes_of(postfix_directory) == []

    def test_a_process_that_does_not_heed_is_killed(
        self, postfix_directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(postfix_instance, "_STOP_TIMEOUT", 0.2)
        with (
            PostfixInstance(postfix_directory) as postfix,
            SmtpDialogue(postfix.ports["smtp"]) as client,
        ):
            client.banner()
            for process in postfix._processes():
                if (Path("/proc") / str(process) / "comm").read_text() == "smtpd\n":
                    os.kill(process, signal.SIGSTOP)

        assert processes_of(postfix_directory) == []

    def test_starting_asks_no_policy_server_and_logs_no_session(
        self, postfix_directory: Path
    ) -> None:
        policy = PolicyServer()
        undelayed = {"smtpd_delay_reject": "no", **asking_everywhere(policy.port)}
        with (
            serving(policy),
            PostfixInstance(postfix_directory, services={"undelayed": undelayed}) as postfix,
        ):
            assert policy.requests == []
            assert not [line for line in postfix.log_lines() if "smtpd[" in line]

    def test_it_starts_again_in_its_directory(self, postfix_directory: Path) -> None:
        instance = PostfixInstance(postfix_directory)
        for _ in range(2):
            with instance:
                assert listens(instance.ports["smtp"])

    def test_a_second_one_is_not_started_in_a_directory(self, postfix_directory: Path) -> None:
        with PostfixInstance(postfix_directory) as first:
            with pytest.raises(PostfixError, match="a Postfix is running there"):
                PostfixInstance(postfix_directory).start()

            assert listens(first.ports["smtp"])

    def test_stop_before_start_does_nothing(self, postfix_directory: Path) -> None:
        PostfixInstance(postfix_directory / "never").stop()

        assert list(postfix_directory.iterdir()) == []

    def test_two_instances_do_not_meet(self, postfix_directory: Path) -> None:
        one, other = (PostfixInstance(postfix_directory / name) for name in ("one", "other"))
        with one:
            with other:
                for instance, text in ((one, "first"), (other, "second")):
                    instance.submit("a@policyd.test", "b@policyd.test", f"Subject: {text}\n\n")
                    (message,) = instance.wait_delivered("b@policyd.test")
                    assert f"\nSubject: {text}\n".encode() in message

            assert not listens(other.ports["smtp"])
            assert listens(one.ports["smtp"])

    def test_reload_changes_parameters(self, postfix_directory: Path) -> None:
        services: Mapping[str, Mapping[str, str]] = {"a": {}, "b": {"smtpd_banner": "b"}}
        with PostfixInstance(postfix_directory, services=services) as postfix:
            for port in postfix.ports.values():  # an idle smtpd holds the old parameters
                with SmtpDialogue(port) as client:
                    assert client.banner().code == 220
                    client.quit()

            postfix.reload(
                main={"smtpd_banner": "from main"}, services={"b": {"smtpd_banner": "c"}}
            )

            for service, banner in (("a", "220 from main"), ("b", "220 c")):
                with SmtpDialogue(postfix.ports[service]) as client:
                    assert client.banner().lines == (banner,)


class TestWrongConfiguration:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            pytest.param(
                {"main": {"inet_interfaces": "no-such-host.invalid"}},
                "fatal: config variable inet_interfaces: host not found: no-such-host.invalid",
                id="a value that the master cannot use",
            ),
            pytest.param(
                {"main": {"default_process_limit": "many"}},
                "fatal: bad numerical configuration: default_process_limit = many",
                id="a value that is no number",
            ),
            pytest.param(
                {"main": {"smtpd_recipient_restriction": "reject"}},
                "main.cf: unused parameter: smtpd_recipient_restriction=reject",
                id="a name in main.cf that Postfix does not know",
            ),
            pytest.param(
                {"main": {"smtpd_banner": "$nowhere"}},
                "main.cf: undefined parameter: nowhere",
                id="a reference that leads nowhere",
            ),
            pytest.param(
                {"services": {"smtp": {"smtpd_recipient_restriction": "reject"}}},
                "master.cf: unused parameter: smtpd_recipient_restriction=reject",
                id="a name in a service that Postfix does not know",
            ),
            pytest.param(
                {"services": {"good": {}, "bad": {"smtpd_relay_restrictions": "permit"}}},
                "service bad: fatal: in parameter smtpd_relay_restrictions",
                id="a service that would be an open relay",
            ),
            pytest.param(
                {"services": {"bad": {"smtpd_client_restrictions": "check_client_access no:map"}}},
                "service bad: error: unsupported dictionary type: no",
                id="a map of a type that does not exist",
            ),
            pytest.param(
                {
                    "services": {
                        "bad": {"smtpd_data_restrictions": "check_policy_service { inet:h:1, x=y }"}
                    }
                },
                'service bad: fatal: unknown option: "x = y"',
                id="an option that a policy service does not have",
            ),
        ],
    )
    def test_postfix_says_what_is_wrong_and_nothing_is_left_running(
        self, postfix_directory: Path, options: dict[str, dict[str, object]], words: str
    ) -> None:
        with pytest.raises(PostfixError) as caught:
            PostfixInstance(postfix_directory, **options).start()  # type: ignore[arg-type]  # mixed

        assert words in str(caught.value)
        assert processes_of(postfix_directory) == []

    def test_a_port_in_use_is_told(self, postfix_directory: Path) -> None:
        instance = PostfixInstance(postfix_directory)
        with (
            socket.create_server(("127.0.0.1", instance.ports["smtp"])),
            pytest.raises(PostfixError, match=r"Address already in use|startup failed"),
        ):
            instance.start()

        assert processes_of(postfix_directory) == []

    def test_a_directory_that_postfix_users_cannot_reach_is_refused(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o700)

        with pytest.raises(PostfixError, match="closed to Postfix's users"):
            PostfixInstance(tmp_path / "instance").start()

    def test_a_value_with_unbalanced_braces_is_refused(self, postfix_directory: Path) -> None:
        services = {"smtp": {"smtpd_banner": "} {"}}

        with pytest.raises(ValueError, match="smtpd_banner: unbalanced braces"):
            PostfixInstance(postfix_directory, services=services).start()
