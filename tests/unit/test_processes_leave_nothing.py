"""Real processes: what a CLI says is bounded, what it is asked is answered, and nothing outlives it."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from tests.unit.support import eventually
from worker.claude import process as claude_process
from worker.claude.process import ClaudeProcess, CliNotStartedError
from worker.process_tree import MARKER_VARIABLE, end_tree

PRELUDE = """
import json, os, signal, subprocess, sys, time
def say(value): print(json.dumps(value, separators=(",", ":")), flush=True)
def hear(): return json.loads(sys.stdin.readline())
def answer(asked, **fields):
    say({"type": "control_response", "response": {"request_id": asked["request_id"], **fields}})
"""


class Heard:
    """A process and what it has said."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.ends: list[str | None] = []
        self.process: ClaudeProcess

    @property
    def pid(self) -> int:
        return self.process._transport.get_pid()

    async def said(self, count: int) -> list[bytes]:
        await eventually(lambda: len(self.lines) >= count or self.ends, f"{count} lines")
        return self.lines


Cli = Callable[[str], Awaitable[Heard]]


@pytest.fixture
async def cli(tmp_path: Path) -> AsyncIterator[Cli]:
    """Starts a Python program as the CLI; afterwards it has ended and so has all it started."""
    marker = f"test-{os.getpid()}-{time.monotonic_ns()}"
    started: list[Heard] = []

    async def start(program: str) -> Heard:
        heard = Heard()
        heard.process = await ClaudeProcess.start(
            [sys.executable, "-S", "-c", PRELUDE + program],
            cwd=tmp_path,
            env={MARKER_VARIABLE: marker},
            marker=marker,
            on_lines=heard.lines.extend,
            on_close=heard.ends.append,
        )
        started.append(heard)
        return heard

    yield start
    for heard in started:
        await heard.process.end()
        assert heard.process.exit_code is not None
        assert len(heard.ends) <= 1
    assert marked(marker) == []
    await asyncio.sleep(0)  # transports close in the loop's next turn


def marked(marker: str) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARKER_VARIABLE) == marker and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


async def test_lines_come_whole_and_answers_go_to_who_asked(cli: Cli) -> None:
    heard = await cli("""
asked = hear()
say({"type": "system", "heard": asked["request"]["subtype"]})
answer(asked, subtype="success", response={"models": []})
sys.stdout.write('{"type":'); sys.stdout.flush(); time.sleep(0.05)
sys.stdout.write('"half"}\\n\\n'); sys.stdout.flush()
print("not JSON", flush=True)
say(hear()["message"])
""")
    assert await heard.process.request({"subtype": "initialize"}, timeout_s=10) == {"models": []}
    heard.process.send({"message": "line\nbreak \u2028 🙂"})
    await eventually(lambda: heard.ends, "it ends")
    assert heard.lines[0] == b'{"type":"system","heard":"initialize"}'
    assert heard.lines[1:3] == [b'{"type":"half"}', b"not JSON"]
    assert heard.lines[3].startswith(b'"line\\nbreak')
    assert heard.ends == [None]


async def test_many_lines_in_any_chunks_arrive_in_order(cli: Cli) -> None:
    heard = await cli("""
for n in range(20000): sys.stdout.write('{"n":%d,"pad":"%s"}\\n' % (n, "x" * (n % 97)))
sys.stdout.flush()
""")
    await eventually(lambda: heard.ends, "it ends")
    assert [int(each[5 : each.index(b",")]) for each in heard.lines] == list(range(20_000))


async def test_a_refused_request_carries_the_clis_words(cli: Cli) -> None:
    heard = await cli("answer(hear(), subtype='error', error='No such model.'); hear()")
    with pytest.raises(CliNotStartedError, match="No such model"):
        await heard.process.request({"subtype": "initialize"}, timeout_s=10)


async def test_a_request_without_an_answer_times_out(cli: Cli) -> None:
    heard = await cli("time.sleep(60)")
    with pytest.raises(TimeoutError):
        await heard.process.request({"subtype": "initialize"}, timeout_s=0.05)
    assert heard.process._answers == {}


async def test_a_late_answer_is_nobodys_and_no_line(cli: Cli) -> None:
    heard = await cli("asked = hear(); hear(); answer(asked, subtype='success'); say({'type': 'x'}); hear()")
    with pytest.raises(TimeoutError):
        await heard.process.request({"subtype": "initialize"}, timeout_s=0.05)
    heard.process.send({})
    assert await heard.said(1) == [b'{"type":"x"}']


async def test_an_exit_in_the_middle_of_a_request_fails_it(cli: Cli) -> None:
    heard = await cli("hear(); sys.exit(3)")
    with pytest.raises(CliNotStartedError, match="exited"):
        await heard.process.request({"subtype": "initialize"}, timeout_s=30)
    assert await heard.process.wait(10)
    assert heard.process.exit_code == 3
    assert heard.ends == [None]


async def test_a_request_of_a_cli_that_has_gone_fails_at_once(cli: Cli) -> None:
    heard = await cli("sys.exit(0)")
    await eventually(lambda: heard.ends, "it ends")
    with pytest.raises(CliNotStartedError):
        await heard.process.request({"subtype": "initialize"}, timeout_s=30)
    heard.process.send({"type": "user"})
    heard.process.interrupt()


@pytest.mark.parametrize(
    "answer", [r"\xff\xfe", '"x":' + "[" * 100_000, '"response":17}', "}", '"response":{"request_id":5}}']
)
async def test_an_answer_that_cannot_be_read_is_a_line_like_others(cli: Cli, answer: str) -> None:
    heard = await cli(f"""
sys.stdout.buffer.write(b'{{"type":"control_response",' + b'''{answer}''' + b"\\n")
sys.stdout.buffer.flush()
""")
    await eventually(lambda: heard.ends, "it ends")
    assert len(heard.lines) == 1
    assert heard.ends == [None]


async def test_a_line_beyond_the_bound_ends_the_reading(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claude_process, "MAX_LINE_BYTES", 1_000_000)
    heard = await cli("""
say("before")
sys.stdout.write("x" * 900_000 + "\\n")
while True: sys.stdout.write("y" * 100_000)
""")
    await eventually(lambda: heard.ends, "it is noticed")
    assert [each[:1] for each in heard.lines] == [b'"', b"x"]
    assert heard.ends[0] is not None
    assert "1000000" in heard.ends[0]
    await asyncio.sleep(0.1)
    assert len(heard.process._rest) < 2_000_000  # what follows is not kept


async def test_the_end_of_standard_error_is_kept_within_a_bound(cli: Cli) -> None:
    heard = await cli("""
for n in range(5000): print("complaint", n, "z" * 5000, file=sys.stderr)
sys.stderr.write("w" * 100_000 + "the last words")
""")
    assert await heard.process.wait(20)
    await heard.process.end()
    tail = heard.process.stderr_tail
    assert len(tail) < 150_000
    assert tail.endswith("the last words")
    assert "complaint 4999" in tail


async def test_a_cli_that_is_held_up_goes_on_where_it_was(cli: Cli) -> None:
    heard = await cli("""
hear()
for n in range(50000): sys.stdout.write('{"n":%d}\\n' % n)
sys.stdout.flush()
""")
    heard.process.pause()
    heard.process.send({})
    await asyncio.sleep(0.2)
    assert heard.lines == []
    heard.process.resume()
    await eventually(lambda: heard.ends, "it ends")
    assert len(heard.lines) == 50_000


async def test_a_program_that_is_not_there_is_said(tmp_path: Path) -> None:
    for argv, cwd in ([str(tmp_path / "claude")], tmp_path), ([sys.executable], tmp_path / "gone"):
        with pytest.raises(CliNotStartedError, match="could not be started"):
            await ClaudeProcess.start(
                argv, cwd=cwd, env={}, marker="m", on_lines=lambda _: None, on_close=lambda _: None
            )


async def test_a_cli_is_let_go_by_itself_when_there_is_time(cli: Cli) -> None:
    heard = await cli("say('ready'); sys.stdin.read(); sys.exit(0)")
    await heard.said(1)
    await heard.process.end(grace_s=10, sweep=False)
    assert heard.process.exit_code == 0
    await heard.process.end()


async def test_a_cli_that_will_not_go_is_killed(cli: Cli) -> None:
    heard = await cli("""
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)
say("ready")
while True: time.sleep(60)
""")
    await heard.said(1)
    await heard.process.end(grace_s=0.05)
    assert heard.process.exit_code == -9


ORPHAN = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"], start_new_session=True)
"""


async def test_what_a_tool_detached_is_ended_too(cli: Cli) -> None:
    """It has a session of its own and, once its parent has gone, no tie to the CLI but the marker."""
    heard = await cli(f"""
subprocess.run([sys.executable, "-S", "-c", {ORPHAN!r}], start_new_session=True)
subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"], start_new_session=True)
say("ready"); hear()
""")
    await heard.said(1)
    assert len(marked(heard.process._marker)) == 3
    await heard.process.end()
    assert marked(heard.process._marker) == []


async def test_what_a_cli_leaves_behind_by_itself_is_swept(cli: Cli) -> None:
    heard = await cli(f'exec({ORPHAN!r}); say("bye")')
    await eventually(lambda: heard.process.exit_code is not None, "it exits")
    assert len(marked(heard.process._marker)) == 1
    await heard.process.end(grace_s=5)
    assert marked(heard.process._marker) == []


FLEEING = """
import os, time
os.setsid()
for _ in range(4): os.fork()
for _ in range(400):
    time.sleep(0.025)
    if os.fork(): os._exit(0)
"""


async def test_what_goes_on_forking_is_caught(cli: Cli) -> None:
    """Sixteen processes, each of which lives for a moment and leaves another."""
    heard = await cli(f"""
subprocess.Popen([sys.executable, "-S", "-c", {FLEEING!r}])
say("ready"); hear()
""")
    await heard.said(1)
    await eventually(lambda: len(marked(heard.process._marker)) > 10, "they have forked")
    await heard.process.end()
    assert marked(heard.process._marker) == []


@asynccontextmanager
async def sleeper(**environ: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-S", "-c", "print(flush=True); import time; time.sleep(60)"),
        env=environ,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_only_the_tree_and_what_is_marked_is_ended() -> None:
    async with (
        sleeper() as root,
        sleeper(**{MARKER_VARIABLE: "one"}) as ours,
        sleeper(**{MARKER_VARIABLE: "one-more"}) as other,
        sleeper() as unrelated,
    ):
        await end_tree(root.pid, "one")
        assert await asyncio.wait_for(root.wait(), 5) == -9
        assert await asyncio.wait_for(ours.wait(), 5) == -9
        assert other.returncode is None
        assert unrelated.returncode is None
        assert psutil.Process(other.pid).status() != psutil.STATUS_ZOMBIE
        await end_tree(root.pid, "one")  # again, with nothing left


async def test_a_process_id_that_another_has_by_now_is_left_alone(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An id is free for others as soon as its process has been waited for."""
    ended: list[int | None] = []

    async def spy(pid: int | None, marker: str) -> None:
        ended.append(pid)
        await end_tree(pid, marker)

    monkeypatch.setattr(claude_process, "end_tree", spy)
    gone, living = await cli("sys.exit(0)"), await cli("hear(); hear()")
    assert await gone.process.wait(10)
    pid = living.pid
    await living.process.end()
    await gone.process.end()
    assert ended == [pid, None]
