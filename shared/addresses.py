"""Which addresses a URL of a client's, or a name of an agent's, may lead to: the internet's alone."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_UNICAST = ip_network("2000::/3")
_NEVER = tuple(
    ip_network(network)
    for network in (
        # What `is_global` lets through, in one Python or another
        "192.88.99.0/24",  # 6to4 relays (RFC 7526)
        "224.0.0.0/4",  # multicast
        "2001::/23",  # Teredo, ORCHID and other protocols: some hold an IPv4 address (RFC 2928)
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: holds an IPv4 address (RFC 3056)
        "3fff::/20",  # documentation (RFC 9637)
    )
)
_PRIVATE = tuple(
    ip_network(network)
    for network in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
)


def is_allowed(address: str, *, with_private: bool) -> bool:
    """Whether a connection may be made to `address`, as a resolver gives it.

    Public unicast addresses only; `with_private` adds loopback and private networks, and still no link-local
    one, where clouds serve credentials. An IPv6 address that holds an IPv4 one is never allowed.
    """
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv6Address) and ip.scope_id is not None:
        return False
    return _is_public(ip) or (with_private and any(ip in network for network in _PRIVATE))


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    if not ip.is_global or any(ip in network for network in _NEVER):
        return False
    return ip in _UNICAST if isinstance(ip, IPv6Address) else not ip.is_reserved
