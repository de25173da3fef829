"""What a program asks of its HTTP proxy: a tunnel (CONNECT), or a plain `http://` request (RFC 9112)."""

from __future__ import annotations

import re

import msgspec

_LINE = re.compile(rb"([A-Z]{1,20}) (\S+) HTTP/1\.[01]")
_TUNNEL = re.compile(rb"([A-Za-z0-9._-]+):([0-9]{1,5})")
_PLAIN = re.compile(rb"http://([A-Za-z0-9._-]+)(?::([0-9]{1,5}))?((?:[/?].*)?)")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*)")
_HOPS = {b"connection", b"keep-alive", b"te", b"upgrade", b"host"}
_MOST_PORT = 65535


class BadHeadError(Exception):
    """The request is none, or leads to no host by its name."""


class Wish(msgspec.Struct, frozen=True):
    """Where a program wants to go; `head` is what the host is told first, nothing in a tunnel."""

    host: str
    port: int
    head: bytes = b""

    @property
    def is_tunnel(self) -> bool:
        """Whether bytes are to be passed on as they are."""
        return not self.head


def wish_of(head: bytes) -> Wish:
    """Read a request's head, up to and with its empty line; raises `BadHeadError`.

    Addresses in place of names are not told apart here: no list has them.
    """
    first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    line = _LINE.fullmatch(first)
    if line is None:
        raise BadHeadError("This is no request to a proxy.")
    method, target = line.groups()
    if method == b"CONNECT":
        if (tunnel := _TUNNEL.fullmatch(target)) is None:
            raise BadHeadError("CONNECT wants the name of a host, and a port.")
        return Wish(tunnel[1].decode(), _port(tunnel[2]))
    if (plain := _PLAIN.fullmatch(target)) is None:
        raise BadHeadError("A proxy wants http:// and the name of a host.")
    host, port, path = plain[1], _port(plain[2] or b"80"), plain[3] or b"/"
    path = path if path.startswith(b"/") else b"/" + path
    named = host if plain[2] is None else host + b":" + plain[2]
    told = [b"host: " + named, *_kept(lines), b"connection: close"]
    return Wish(host.decode(), port, b"\r\n".join([b"%s %s HTTP/1.1" % (method, path), *told, b"", b""]))


def _kept(lines: list[bytes]) -> list[bytes]:
    kept: list[bytes] = []
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None:
            raise BadHeadError("A header of the request is none.")
        name = header[1].lower()
        if name not in _HOPS and not name.startswith(b"proxy-"):
            kept.append(line)
    return kept


def _port(digits: bytes) -> int:
    port = int(digits)
    if not 0 < port <= _MOST_PORT:
        raise BadHeadError("There is no such port.")
    return port
