"""All that a stack's Redis holds, as text."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tests.support.stack import Stack


def redis_dump(stack: Stack) -> dict[str, str]:
    """What stands under each name; what is compressed is opened."""
    with stack.redis_client() as connected:
        client: Any = connected
        read: dict[bytes, Callable[[bytes], Any]] = {
            b"string": lambda name: [client.get(name) or b""],
            b"hash": lambda name: [*client.hkeys(name), *client.hvals(name)],
            b"list": lambda name: client.lrange(name, 0, -1),
            b"set": client.smembers,
            b"zset": lambda name: client.zrange(name, 0, -1),
            b"stream": lambda name: [part for _, entry in client.xrange(name) for part in entry.values()],
            b"none": lambda _: [],  # it went meanwhile
        }
        return {
            name.decode("latin-1"): "".join(_opened(part) for part in read[client.type(name)](name))
            for name in client.scan_iter()
        }


def _opened(data: bytes) -> str:
    with suppress(zlib.error):
        data = zlib.decompress(data)
    return data.decode("latin-1")
