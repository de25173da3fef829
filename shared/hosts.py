"""Names of hosts as an operator lists them: `example.com`, `*.example.com`, `example.com:8443`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

from msgspec import Meta

Listed = Annotated[
    str, Meta(pattern=r"^(?:\*\.)?(?:[a-z0-9_-]{1,63}\.)*[a-z][a-z0-9-]{0,62}(?::[1-9][0-9]{0,4})?$")
]
"""A name in lower case, never an address: its last label begins with a letter. `*.` stands for any below."""

WEB_PORTS = frozenset({80, 443})
"""What an entry without a port allows."""


def is_listed(host: str, port: int, listed: Iterable[str]) -> bool:
    """Whether an entry of `listed` names `host` (in lower case, without a dot at its end) and `port`."""
    return any(_names(entry, host) and port in _ports(entry) for entry in listed)


def is_within(entry: str, listed: Sequence[str]) -> bool:
    """Whether all that `entry` names is named in `listed` too."""
    return all(
        any(_covers(other, entry) and port in _ports(other) for other in listed) for port in _ports(entry)
    )


def _names(entry: str, host: str) -> bool:
    name = entry.partition(":")[0]
    return host.endswith(name[1:]) and host != name[1:] if name.startswith("*.") else host == name


def _covers(wider: str, entry: str) -> bool:
    name = entry.partition(":")[0]
    return wider.partition(":")[0] == name or _names(wider, name)


def _ports(entry: str) -> frozenset[int]:
    port = entry.partition(":")[2]
    return frozenset({int(port)}) if port else WEB_PORTS
