"""
What a worker has beside its policy: state, what else checks ask, and the checks.

It is made once and kept over reloads. Nothing is opened before a policy asks for it.
"""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

from policyd.checks.authentication import Authentication
from policyd.checks.builtin import STORE, serving
from policyd.checks.foreign import ahead, running
from policyd.checks.installed import installed
from policyd.checks.interface import Check
from policyd.checks.settling import Settlement
from policyd.checks.zone import Zone
from policyd.rules.policy import Policy
from policyd.serve.ahead import make_ready
from policyd.serve.asked import Asked
from policyd.serve.state_port import StatePort
from policyd.service import Service
from policyd.store.guard import GuardedStore
from policyd.store.model import Expired
from policyd.store.opening import open_store
from policyd.store.place import StateSettings
from policyd.store.upkeep import Upkeep


class State:
    """State and what else is asked, of one worker; everything runs on its loop."""

    def __init__(self, settings: StateSettings, configuration: Path, *, upkeep: bool) -> None:
        """
        Prepare; `upkeep`: this worker drops what has expired, for all.

        State that is nowhere but here is shown to commands that name the configuration.
        """
        self.store = GuardedStore(
            open_store(settings), timeout=settings.timeout, changed=self._store_changed
        )
        self.asked = Asked(self._changed)
        asked = self.asked
        self.authentication = Authentication(asked.resolver, asked.brief, asked.heavy)
        self._upkeep: Upkeep | None = None
        if upkeep:
            self._upkeep = Upkeep(
                self.store, clock=time.time, timer=time.perf_counter, expired=self._expired
            )
        self._port: StatePort | None = None
        if settings.url == "memory:":
            self._port = StatePort(configuration, self.store)
        self._up: dict[str, tuple[bool, str]] = {}
        self._service: Service | None = None
        self._serving = False
        self.checks = self.find_checks()

    def find_checks(self) -> Mapping[str, Check]:
        """Give all checks by name: those of other packages that can be used, and policyd's own."""
        found, _ = installed()
        self._ahead = {each.check.name: ahead(each) for each in found}
        others = {each.check.name: running(each, self.asked.foreign) for each in found}
        self.checks = {**others, **serving(self.asked.live(self.store), self.authentication)}
        return self.checks

    def serve(self, service: Service, policy: Policy) -> None:
        """Serve a policy, which the service has taken: open what it depends on."""
        self._service = service
        service.stamper.authenticates = self.authentication
        if STORE in policy.dependencies and not self._serving:
            self._serving = True
            self.store.start()
            service.settling.settles = Settlement(self.store, time.time)
            if self._upkeep is not None:
                self._upkeep.start()
            if self._port is not None:
                self._opening = asyncio.get_running_loop().create_task(self._open_port(self._port))
        make_ready(self.asked, policy)
        self.asked.zones.watch(each for each in policy.defined if isinstance(each, Zone))
        modules = {each for name in policy.asks for each in self._ahead.get(name, ())}
        if modules:
            self.asked.foreign.start(*sorted(modules))
        for name, (up, _why) in self._up.items():
            service.dependency_is(name, up)  # the policy may be the first to count it

    async def close(self) -> None:
        """Let go of everything."""
        if self._port is not None:
            self._port.stop()
        if self._upkeep is not None:
            await self._upkeep.close()
        await self.asked.close()
        if self._serving:
            await self.store.close()

    async def _open_port(self, port: StatePort) -> None:
        try:
            await port.start()
        except OSError as error:
            assert self._service is not None
            self._service.tell("error", "commands.unavailable", reason=str(error.strerror))

    def _store_changed(self, up: bool, why: str) -> None:
        self._changed(STORE, up, why)

    def _changed(self, name: str, up: bool, why: str) -> None:
        was_up, _ = self._up.get(name, (True, ""))
        self._up[name] = (up, why)
        if self._service is not None:
            self._service.dependency_is(name, up)
            if not (was_up and up):
                self._service.dependency_changed(name, up, why)

    def _expired(self, expired: Expired) -> None:
        if self._service is not None:
            self._service.unsettled(expired.unsettled)
