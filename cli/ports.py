"""Which port the API listens on."""

from __future__ import annotations

import errno
import socket

from cli.errors import CommandError

FALLBACK_PORTS = range(9000, 10001)


def choose_port(host: str, port: int, *, asked: bool) -> int:
    """Return `port` if it can be bound on `host`, else the next free one in 9000-10000 unless `asked` for.

    Raises CommandError when the asked-for port is taken, none is free, or `host` is not this machine's.
    """
    trouble = _trouble(host, port)
    if trouble is None:
        return port
    if trouble != errno.EADDRINUSE:
        raise CommandError(f"Cannot listen on {host} port {port}: {_reason(trouble)}.")
    if asked:
        raise CommandError(f"Port {port} on {host} is already in use; choose another with --port.")
    higher = [candidate for candidate in FALLBACK_PORTS if candidate > port]
    for candidate in [*higher, *(low for low in FALLBACK_PORTS if low < port)]:
        if _trouble(host, candidate) is None:
            return candidate
    raise CommandError(f"No port from 9000 to 10000 is free on {host}; choose one with --port.")


def _trouble(host: str, port: int) -> int | None:
    """Bind for a moment; return the error number if that fails."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        return errno.EADDRNOTAVAIL
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(
                socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
            )  # as the server will: TIME_WAIT is no obstacle
            try:
                probe.bind(address)
            except OSError as error:
                return error.errno or errno.EIO
    return None


def _reason(number: int) -> str:
    if number == errno.EADDRNOTAVAIL:
        return "this machine has no such address"
    if number in (errno.EACCES, errno.EPERM):
        return "ports below 1024 need more rights; choose another with --port"
    return errno.errorcode.get(number, str(number))
