"""The two servers of the demonstration: a private Postfix, and policyd beside it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.demo.samples import LOCAL, SERVICE_PORT
from tools.policyd_process import Labels, PolicydProcess, free_port
from tools.postfix_instance import PostfixInstance

_RULES = Path(__file__).with_name("rules.toml")

Series = tuple[str, Labels]
"""A metric's name and its labels."""

_CONFIGURATION = """\
include = ["rules.toml"]

[policy_service]
listen = ["inet:127.0.0.1:{policy}"]

[milter]
listen = ["unix:{directory}/milter.sock"]
socket_group = "postfix"

[metrics]
listen = "127.0.0.1:{metrics}"

[state]
url = "sqlite:{directory}/state.sqlite"

[log]
format = "json"

[replies]
show_id = true
"""


class Site:
    """Postfix and policyd in one directory; `running` starts and stops both."""

    def __init__(self, directory: Path) -> None:
        """Write policyd's configuration, lay out Postfix's."""
        self.config = directory / "policyd.toml"
        policy, metrics = free_port(), free_port()
        self.policyd = PolicydProcess(self.config, f"127.0.0.1:{metrics}")
        self.wiring = _wiring(f"inet:127.0.0.1:{policy}", f"unix:{directory}/milter.sock")
        self.postfix = PostfixInstance(
            directory / "postfix",
            services={
                "smtp": self.wiring,
                # what comes back from a content filter is asked about by nobody (FILTER_README)
                "filtered": {
                    "myhostname": f"filter.{LOCAL}",
                    "smtpd_milters": "",
                    "smtpd_recipient_restrictions": "",
                },
            },
            mailboxes=(f"@{LOCAL}",),
            hostname=f"mx.{LOCAL}",
        )
        self.smtp_port = self.postfix.ports["smtp"]
        self.config.write_text(
            _CONFIGURATION.format(directory=directory, policy=policy, metrics=metrics)
        )
        rules = _RULES.read_text().replace(SERVICE_PORT, str(self.postfix.ports["filtered"]))
        (directory / "rules.toml").write_text(rules)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start policyd, then Postfix; stop them in the opposite order."""
        with self.policyd, self.postfix:
            yield

    def counts(self) -> Counter[Series]:
        """Scrape /metrics: the counters that tell of replies."""
        return Counter(
            {
                (name, labels): round(value)
                for name in ("policyd_replies_total", "policyd_rule_replies_total")
                for labels, value in self.policyd.samples(name).items()
            }
        )

    def decisions(self, after: int = 0) -> list[dict[str, Any]]:
        """Read the decisions in policyd's log, past the first `after` ones."""
        return self.policyd.decisions()[after:]


def _wiring(policy: str, milter: str) -> Mapping[str, str]:
    """Wire Postfix to both front ends; the last restriction is Postfix's own."""
    return {
        "smtpd_recipient_restrictions": (
            f"check_policy_service {policy},\n"
            f"check_recipient_access inline:{{ {{ closed@{LOCAL} = 550 5.2.1 Mailbox closed }} }}"
        ),
        "smtpd_data_restrictions": f"check_policy_service {policy}",
        "smtpd_milters": milter,
        "milter_default_action": "tempfail",
    }
