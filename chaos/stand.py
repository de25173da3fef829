"""A product of real processes in a directory of its own: its APIs and workers, Valkey, and the model."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import httpx
import msgspec
import psutil
from redis.asyncio import Redis
from redis.exceptions import RedisError

from chaos.products import Place, Product
from chaos.proxy import FaultProxy

_END_S = 40.0
_READY_S = 60.0
_POLL_S = 0.1
_MODEL = "model"
AGENT = "agent"


class Programs(msgspec.Struct, frozen=True):
    """How to start what a stand consists of; who composes knows."""

    python: Callable[..., Sequence[str]]
    """The command for a Python module and its arguments."""
    watch: Callable[[int], Sequence[str]]
    """The command that ends a process when this one is no more."""
    valkey: str
    claude: str
    """The CLI, for what does not find it by itself."""
    environ: Mapping[str, str]
    pass_fds: tuple[int, ...] = ()


class Part:
    """One process of the stand: started, broken, and started again."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        environ: Mapping[str, str],
        directory: Path,
        pass_fds: tuple[int, ...],
        proxy: FaultProxy | None = None,
    ) -> None:
        self.name = name
        self.proxy = proxy
        self.log = directory / f"{name}.log"
        self._argv = argv
        self._environ = dict(environ)
        self._directory = directory
        self._pass_fds = pass_fds
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def runs(self) -> bool:
        """Whether it has been started and not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        assert self._process is not None  # noqa: S101 - nothing asks before the start
        return self._process.pid

    def start(self) -> None:
        """Start it (again)."""
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                list(self._argv),
                env=self._environ,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=self._pass_fds,
                start_new_session=True,
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self.runs:
            os.kill(self.pid, number)

    async def ended(self, within_s: float = _END_S) -> int | None:
        """Wait for its end; the exit code, or `None` when it did not end in that time and was killed."""
        process = self._process
        if process is None:
            return 0
        try:
            return await asyncio.to_thread(process.wait, within_s)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)
            return None


class Stand:
    """The parts. `data` holds the private data of each worker and the APIs, `agent` the agent's directory."""

    def __init__(self, root: Path, programs: Programs, product: Product) -> None:
        self.root = root
        self.agent = root / "agents" / AGENT
        self.socket = root / "v.sock"
        self.temporary = root / "tmp"
        """Where Backline's own processes put what is temporary."""
        self._programs = programs
        self._product = product
        self.valkey = self._part("valkey", _valkey(programs.valkey, self.socket, root))
        self.model: Part
        self.model_url = ""
        self.apis: list[Part] = []
        self.workers: list[Part] = []
        self.urls: list[str] = []
        self._watches: list[Part] = []
        self._replica: Part | None = None

    @property
    def parts(self) -> list[Part]:
        """All that is Backline's own, and its Valkey."""
        return [*self.apis, *self.workers, self.valkey]

    @asynccontextmanager
    async def redis(self) -> AsyncIterator[Redis]:
        """A client past the proxies."""
        async with Redis(unix_socket_path=str(self.socket), socket_timeout=10) as client:
            yield client

    async def start(self, stack: AsyncExitStack, *, apis: int, workers: int) -> None:
        """Start everything; raises `TimeoutError` when it does not get ready."""
        stack.push_async_callback(self._kill_all)
        self._make_agent()
        self.temporary.mkdir(exist_ok=True)
        self.start_valkey()
        await self._start_model()
        for number in range(1, apis + 1):
            proxy = await stack.enter_async_context(FaultProxy(self.socket))
            port = _free_port()
            self.urls.append(f"http://127.0.0.1:{port}")
            place = Place(proxy.url, self.model_url, self.root / "data", self.agent)
            self.apis.append(self._of_product(f"api{number}", self._product.api(port), place, proxy))
        for number in range(1, workers + 1):
            proxy = await stack.enter_async_context(FaultProxy(self.socket))
            place = Place(proxy.url, self.model_url, self.root / f"data{number}", self.agent)
            self.workers.append(
                self._of_product(f"worker{number}", self._product.worker(place), place, proxy)
            )
        for part in (*self.apis, *self.workers):
            part.start()
        await self.ready(workers)

    async def ready(self, workers: int, within_s: float = _READY_S) -> None:
        """Wait until every API sees so many workers; raises `TimeoutError`."""
        async with asyncio.timeout(within_s), httpx.AsyncClient(timeout=5) as http:
            for url in self.urls:
                while not await self._product.is_ready(http, url, workers):
                    await asyncio.sleep(_POLL_S)

    def start_valkey(self) -> None:
        """Start Valkey (again), and what ends it when this process is killed."""
        self.socket.unlink(missing_ok=True)
        self._start_watched(self.valkey)

    def start_replica(self, port: int) -> tuple[Part, Path]:
        """Start a replica of who answers at `port`, and give it with its socket."""
        directory = self.root / "replica"
        directory.mkdir()
        path = directory / "v.sock"
        self._replica = self._part("replica", _valkey(self._programs.valkey, path, directory, port))
        self._start_watched(self._replica)
        return self._replica, path

    def fail_over(self, path: Path) -> None:
        """Let everybody connect to the replica with this socket, which is in Valkey's place from now on."""
        assert self._replica is not None  # noqa: S101 - it was started
        self.valkey, self.socket = self._replica, path
        for part in (*self.apis, *self.workers):
            if part.proxy is not None:
                part.proxy.lead_to(path)

    async def valkey_answers(self) -> None:
        """Wait for it, as long as it takes to load its data; raises `TimeoutError`."""
        async with asyncio.timeout(_READY_S):
            while True:
                with suppress(RedisError, OSError):
                    async with self.redis() as redis:
                        await redis.ping()
                        return
                await asyncio.sleep(_POLL_S)

    def effects(self) -> list[str]:
        """The markers that tools have left in the agent's directory, one for each time they took effect."""
        log = self.agent / "effects.log"
        return log.read_text().split() if log.exists() else []

    def agents_processes(self) -> list[psutil.Process]:
        """The CLIs of all workers, and what they started."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                home = process.environ().get("CLAUDE_CONFIG_DIR", "")
                if home.startswith(f"{self.root}/") and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def _start_watched(self, part: Part) -> None:
        part.start()
        watch = self._part("watch", self._programs.watch(part.pid))
        watch.start()
        self._watches.append(watch)

    def _part(self, name: str, argv: Sequence[str]) -> Part:
        environ = {**self._programs.environ, "PYTHONUNBUFFERED": "1", "HOME": str(self.root)}
        return Part(name, argv, environ, self.root, self._programs.pass_fds)

    def _of_product(self, name: str, module: Sequence[str], place: Place, proxy: FaultProxy) -> Part:
        environ = {
            **self._programs.environ,
            "PYTHONUNBUFFERED": "1",
            "HOME": str(self.root),
            "TMPDIR": str(self.temporary),
            "ANTHROPIC_BASE_URL": self.model_url,
            "ANTHROPIC_API_KEY": "sk-ant-scripted",
            **self._product.environ(place),
        }
        argv = self._programs.python(*module)
        return Part(name, argv, environ, self.root, self._programs.pass_fds, proxy)

    def _make_agent(self) -> None:
        (self.agent / ".claude").mkdir(parents=True)
        (self.agent / "CLAUDE.md").write_text("# An agent that counts\n")
        allow = {"permissions": {"allow": ["Bash"]}}
        (self.agent / ".claude/settings.json").write_text(json.dumps(allow))

    async def _start_model(self) -> None:
        self.model = self._part(_MODEL, self._programs.python("scripted_model", "--port", "0"))
        self.model.start()
        async with asyncio.timeout(_READY_S):
            while not (line := self.model.log.read_text().partition("\n")[0]):
                await asyncio.sleep(_POLL_S)
        self.model_url = json.loads(line)["url"]

    async def _kill_all(self) -> None:
        started = [*self.parts, *self._watches]
        if self._replica is not None:
            started.append(self._replica)
        if hasattr(self, "model"):
            started.append(self.model)
        for part in started:
            part.send(signal.SIGCONT)
            part.send(signal.SIGKILL)
            await part.ended()
        for process in self.agents_processes():
            with suppress(psutil.Error):
                process.kill()


def _valkey(binary: str, path: Path, directory: Path, primary: int | None = None) -> list[str]:
    """The command of a server, which is a replica of who answers at the port `primary`, if there is one."""
    replica = [] if primary is None else ["--replicaof", "127.0.0.1", str(primary)]
    return [
        *(binary, "--port", "0", "--unixsocket", str(path), "--dir", str(directory), "--save", ""),
        *("--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"),
        *replica,
    ]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
