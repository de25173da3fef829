"""Ways out for the processes of a worker, as far as their agents are to have one."""

from __future__ import annotations

from collections.abc import Callable

from shared.settings import Settings
from worker.egress.dialer import Dialer
from worker.egress.proxy import Proxy
from worker.egress.way import Way


class Egress:
    """Makes a way for each process that is to reach some hosts, as `settings_of` says of its agent."""

    def __init__(self, settings_of: Callable[[str], Settings], dialer: Dialer | None = None) -> None:
        self._settings_of = settings_of
        self._dialer = dialer or Dialer()

    def way(self, agent: str) -> Way | None:
        """A way out for one process, which its owner closes; `None` where it has the host's, or none."""
        if self._settings_of(agent).agent_network != "listed":
            return None
        return Way(Proxy(agent, self._dialer, self._settings_of))

    def close(self) -> None:
        """Look up no more names."""
        self._dialer.close()
