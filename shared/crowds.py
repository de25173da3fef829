"""How many connections one client address may have open: nobody takes all that a process can have.

A proxy is one address too. Loopback is not counted: there stands a proxy, or a process that could do worse.
"""

from __future__ import annotations

import resource
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import structlog
from litestar.types import ASGIApp

from shared.settings import Settings

_IPV6_PREFIX = 64
"""What one client of IPv6 has for itself (RFC 6177)."""

_log = structlog.get_logger(__name__)


class Crowds:
    """Counts open connections. Beyond `most` an address is told so; beyond twice as many it is hung up on.

    `most` is `None` for any number; `refusing` answers on connections that are too many.
    """

    def __init__(self, most: int | None, refusing: ASGIApp | None = None) -> None:
        self._most = most
        self.refusing = refusing
        self._open: dict[str, int] = {}

    def enter(self, host: str) -> str:
        """Count a connection from `host`; gives the name that `leave` wants, empty for one not counted."""
        name = _counted(host) if self._most is not None else ""
        if name:
            count = self._open[name] = self._open.get(name, 0) + 1
            if count == (self._most or 0) + 1:
                _log.warning("connections_refused", address=name, open=count)
        return name

    def leave(self, name: str) -> None:
        """The connection has ended."""
        if name:
            self._open[name] -= 1
            if not self._open[name]:
                del self._open[name]

    def is_beyond(self, name: str, *, times: int = 1) -> bool:
        """Whether an address has more than `times` as many as it may."""
        return self._most is not None and self._open.get(name, 0) > times * self._most


def most_of(settings: Settings) -> int | None:
    """What the settings say; else half of the descriptors that this process may have."""
    if settings.connections_per_address is not None:
        return settings.connections_per_address or None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft // 2


def network_of(host: str) -> str:
    """What one client has for itself: its address, of IPv6 the network; as it is, what is no address."""
    ip = _address(host)
    if isinstance(ip, IPv6Address) and not ip.is_loopback:
        return str(ip_network((ip, _IPV6_PREFIX), strict=False))
    return host if ip is None else str(ip)


def _counted(host: str) -> str:
    """The name to count by; empty for loopback, and for a socket that is a file."""
    ip = _address(host)
    return "" if ip is None or ip.is_loopback else network_of(host)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        ip = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return ip.ipv4_mapped or ip if isinstance(ip, IPv6Address) else ip
