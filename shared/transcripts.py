"""Transcripts of Claude sessions in Redis, in the shape of the SDK's `SessionStore`.

The SDK looks for methods, not for a base class, so this module does without importing it (half a second).

A transcript is a list of chunks; a chunk is one append's entries as JSON, joined by commas and compressed.
Beside it stands an index: sizes, and a digest of every uuid held. Chunks too small to be worth their
overhead are packed together by whoever appends.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.resources import files
from itertools import groupby
from typing import Any, NamedTuple, NotRequired, TypedDict
from weakref import WeakValueDictionary

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from shared import redis_keys as keys
from shared import transcript_keys
from shared.scripts import Value

_LEVEL_APPEND = 1
_LEVEL_PACK = 6
_LOOSE_CHUNKS_MAX = 32
"""As many chunks at the end of a transcript are packed into one …"""
_LOOSE_BYTES_MAX = 64 * 1024
"""… or as many as hold this much, so that packing is a few milliseconds' work, whatever the length."""
_SEALED_BYTES = 32 * 1024
"""A chunk of this size is never packed again. Half of the above: what is packed again is mostly new."""
_INLINE_BYTES = 64 * 1024
"""More text than this is compressed, and more chunks than half of it are read, off the event loop."""
_DIGEST_BYTES = 16


class SessionRef(TypedDict):
    """A session: `project_key` scopes it (tenant and agent), `session_id` is Claude's id."""

    project_key: str
    session_id: str


class TranscriptKey(SessionRef):
    """A transcript: a session's main one, or with `subpath` that of one of its subagents."""

    subpath: NotRequired[str]


class TranscriptListEntry(TypedDict):
    """A session that can be resumed; `mtime` is its last append, in epoch ms of Redis's clock."""

    session_id: str
    mtime: int


class TranscriptTooLargeError(Exception):
    """A transcript would hold more bytes than allowed. It is closed: see `TranscriptStore.append`."""


class _Tail(NamedTuple):
    """The end of a transcript: chunks that may be packed, their bytes, and how many stand before them."""

    chunks: int
    bytes: int
    sealed: int

    @property
    def is_worth_packing(self) -> bool:
        return self.chunks >= _LOOSE_CHUNKS_MAX or self.bytes >= _LOOSE_BYTES_MAX


class _Names:
    """What the scripts are told of a transcript: `keys` in the order that their headers give."""

    def __init__(self, key: TranscriptKey) -> None:
        project_key, session_id, subpath = key["project_key"], key["session_id"], key.get("subpath")
        if subpath == "":
            raise ValueError("A subpath is not empty; the main transcript has none.")
        self.prefix = transcript_keys.prefix(project_key, session_id)
        self.session = keys.encoded(session_id)
        self.subpath = keys.encoded(subpath or "")
        self.chunks = transcript_keys.chunks(project_key, session_id, subpath)
        self.index = transcript_keys.index(project_key, session_id, subpath)
        self.keys = [
            self.chunks,
            self.index,
            transcript_keys.subpaths(project_key, session_id),
            transcript_keys.mtimes(project_key),
            transcript_keys.expiries(project_key),
        ]


class TranscriptStore:
    """Transcripts in Redis; satisfies the SDK's `SessionStore`.

    `ttl_s`: seconds a session's transcripts live after the last append to or load of any of them.
    `max_bytes`: the most one transcript may take (compressed chunks and index).
    `redis` must give bytes. Every method raises `redis.RedisError` when Redis does not answer in time, and
    `ValueError` for an empty `subpath`.
    """

    def __init__(self, redis: Redis, *, ttl_s: float, max_bytes: int) -> None:
        self._redis = redis
        self._ttl_ms = max(1, int(ttl_s * 1000))
        self._max_bytes = max_bytes
        self._append = _script(redis, "append")
        self._compact = _script(redis, "compact")
        self._load = _script(redis, "load")
        self._list = _script(redis, "list")
        self._subpaths = _script(redis, "subpaths")
        self._delete = _script(redis, "delete")
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def append(self, key: TranscriptKey, entries: Sequence[Mapping[str, Any]]) -> None:
        """Add `entries` (JSON objects) to the end of a transcript, all of them or none.

        An entry whose `uuid` the transcript holds already is left out, whoever stored it; entries without
        one are always added. Calls of one process are stored in the order they were made.

        Raises `TranscriptTooLargeError` when it would take more than `max_bytes`. Nothing of the call is
        stored then, and every later append of something new is refused too until the transcript is
        deleted: what it holds stays a whole beginning of the conversation, never one with a hole.
        """
        if not entries:
            return
        names = _Names(key)
        async with self._turns.setdefault(names.chunks, asyncio.Lock()):  # each call has its own connection
            tail = await self._push(names, entries)
            if tail is not None and tail.is_worth_packing:
                with suppress(RedisError):  # the entries are stored; the next append packs
                    await self._pack(names, tail.sealed)

    async def load(self, key: TranscriptKey) -> list[Any] | None:
        """All entries of a transcript in order, `None` when there is none (any more)."""
        chunks = await self._chunks(_Names(key), b"")
        return await _unpacked(chunks) if chunks else None

    async def load_until(self, key: TranscriptKey, last_uuid: str) -> list[Any] | None:
        """The entries up to and with the one whose `uuid` is `last_uuid`; `None` when it is not there."""
        chunks = await self._chunks(_Names(key), _digest(last_uuid))
        entries = await _unpacked(chunks)
        for count, entry in enumerate(entries, start=1):
            if entry.get("uuid") == last_uuid:
                return entries[:count]
        return None

    async def list_sessions(self, project_key: str) -> list[TranscriptListEntry]:
        """The sessions of a project that have a main transcript, longest unchanged first."""
        names = [transcript_keys.mtimes(project_key), transcript_keys.expiries(project_key)]
        answer = await self._list(keys=names)
        return [
            {"session_id": keys.decoded(session.decode()), "mtime": int(float(mtime))}
            for session, mtime in zip(answer[::2], answer[1::2], strict=True)
        ]

    async def list_subkeys(self, key: SessionRef) -> list[str]:
        """The subpaths of a session that have a transcript, in no order."""
        project_key, session_id = key["project_key"], key["session_id"]
        answer = await self._subpaths(
            keys=[transcript_keys.subpaths(project_key, session_id)],
            args=[transcript_keys.prefix(project_key, session_id)],
        )
        return [keys.decoded(subpath.decode()) for subpath in answer]

    async def delete(self, key: TranscriptKey) -> None:
        """Delete a transcript; without `subpath` the whole session. Nothing there is no error.

        A process that still mirrors the session would begin it anew, so end that first.
        """
        names = _Names(key)
        await self._delete(keys=names.keys, args=[names.prefix, names.session, names.subpath])

    async def _push(self, names: _Names, entries: Sequence[Mapping[str, Any]]) -> _Tail | None:
        """Store what is new of `entries`; gives the end of the transcript, `None` when nothing was new."""
        lines = _lines(entries)
        # Names this call to a Redis that gets it twice because an answer was lost.
        mark = secrets.token_bytes(_DIGEST_BYTES) if any(not digest for digest, _ in lines) else b""
        known: frozenset[bytes] = frozenset()
        while kept := [line for line in lines if line[0] not in known]:
            chunk = await _compressed(",".join(text for _, text in kept))
            fresh = b"".join(digest for digest, _ in kept)
            scope: list[Value] = [names.prefix, names.session, names.subpath, self._ttl_ms, self._max_bytes]
            status, *answer = await self._append(
                keys=names.keys, args=[*scope, chunk, mark, fresh, b"".join(known)]
            )
            if status < 0:
                raise TranscriptTooLargeError(
                    f"{answer[0]} of {self._max_bytes} bytes are taken; {len(chunk)} more were refused."
                )
            if status > 0:
                return _Tail(*answer)
            known = frozenset(_split(answer[0]))
        return None

    async def _pack(self, names: _Names, sealed: int) -> None:
        """Pack the chunks from number `sealed` on; does nothing when somebody else just did."""
        chunks: list[bytes] = await self._redis.lrange(names.chunks, sealed, -1)  # type: ignore[misc]
        if not chunks:
            return
        digest, packed = await asyncio.to_thread(_packed, chunks)
        is_last_loose = len(packed[-1]) < _SEALED_BYTES
        await self._compact(
            keys=[names.chunks, names.index],
            args=[sealed, len(chunks), digest, len(packed) - is_last_loose, *packed],
        )

    async def _chunks(self, names: _Names, digest: bytes) -> list[bytes]:
        args: list[Value] = [names.prefix, names.session, self._ttl_ms, digest]
        chunks: list[bytes] = await self._load(keys=names.keys, args=args)
        return chunks


def _script(redis: Redis, name: str) -> AsyncScript:
    folder = files("shared") / "lua"
    parts = ("common", "transcript", f"transcript_{name}")
    return redis.register_script("".join((folder / f"{part}.lua").read_text("utf-8") for part in parts))


def _digest(uuid: str) -> bytes:
    return hashlib.blake2b(uuid.encode(errors="surrogatepass"), digest_size=_DIGEST_BYTES).digest()


def _split(digests: bytes) -> Iterator[bytes]:
    return (digests[at : at + _DIGEST_BYTES] for at in range(0, len(digests), _DIGEST_BYTES))


def _lines(entries: Iterable[Mapping[str, Any]]) -> list[tuple[bytes, str]]:
    """The digest of each entry's uuid (empty without one) and its JSON; the first of each uuid."""
    lines: list[tuple[bytes, str]] = []
    met: set[bytes] = set()
    for entry in entries:
        uuid = entry.get("uuid")
        digest = _digest(uuid) if isinstance(uuid, str) and uuid else b""
        if digest in met:
            continue
        if digest:
            met.add(digest)
        lines.append((digest, _encode(entry)))
    return lines


async def _compressed(text: str) -> bytes:
    # Half of a surrogate pair is legal in JSON, and what cuts a tool's output can leave one.
    data = text.encode(errors="surrogatepass")
    if len(data) <= _INLINE_BYTES:
        return zlib.compress(data, _LEVEL_APPEND)
    return await asyncio.to_thread(zlib.compress, data, _LEVEL_APPEND)


async def _unpacked(chunks: Sequence[bytes]) -> list[Any]:
    if sum(map(len, chunks)) <= _INLINE_BYTES // 2:
        return _entries(chunks)
    return await asyncio.to_thread(_entries, chunks)


def _entries(chunks: Iterable[bytes]) -> list[Any]:
    # Chunk by chunk: the parser holds the interpreter's lock as long as it runs.
    entries: list[Any] = []
    for chunk in chunks:
        entries += json.loads(f"[{zlib.decompress(chunk).decode(errors='surrogatepass')}]")
    return entries


def _packed(chunks: Sequence[bytes]) -> tuple[str, list[bytes]]:
    """The digest of `chunks` for the script, and what they are packed into: large ones stay as they are."""
    packed: list[bytes] = []
    for is_large, group in groupby(chunks, key=lambda chunk: len(chunk) >= _SEALED_BYTES):
        if is_large:
            packed += group
        else:
            packed.append(zlib.compress(b",".join(map(zlib.decompress, group)), _LEVEL_PACK))
    return hashlib.sha1(b"".join(chunks), usedforsecurity=False).hexdigest(), packed


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
