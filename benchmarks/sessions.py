"""What keeping conversations gives: warm first turns, live next ones, and what becomes of cold ones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import psutil

from benchmarks.bare import Bare, OpenCli
from benchmarks.figures import hits, percentile, spread
from benchmarks.first_token import wait_of
from benchmarks.gateway import Gateway
from benchmarks.reply import CLI, BenchmarkError, Reply
from benchmarks.results import Chats, Memory, Resumed, Seeding
from benchmarks.side import cpu_s, settled
from benchmarks.stack import Stack
from scripted_model import say
from shared.content import TextPart, Turn
from shared.runs import RunRequest
from worker.claude.home import Homes, trust
from worker.claude.launch import Launcher
from worker.claude.live import LiveProcess, new_session_id
from worker.claude.process import CliNotStartedError
from worker.claude.transcript import messages_of, transcript_of

_LONG_CHAT_TURNS = 20
_WARM_UP_CHATS = 2
"""What the worker grows by at its very first turns is not the price of a conversation."""
_MOST_OPEN = 6
"""Bare CLIs kept open to be weighed."""
_ANSWER_S = 60.0
_ANSWER = "Yes."
_FILLER = " ".join(["Some forty words of a conversation that has gone on for a while already."] * 3)


class _Chat:
    """A client's conversation. No other has the same words."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self._marker = uuid4().hex

    @property
    def messages(self) -> list[dict[str, str]]:
        return [{"role": turn.role, "content": _text(turn)} for turn in self.turns]

    @property
    def prompt(self) -> str:
        """What is said next."""
        return f"{self._marker} {len(self.turns)} {say(_ANSWER)}"

    async def ask(self, gateway: Gateway) -> Reply:
        """Take a turn."""
        prompt, reply = self.prompt, Reply()
        await gateway.ask_after(self.messages, prompt, reply)
        self.turns += [_turn("user", prompt), _turn("assistant", _ANSWER)]
        return reply

    async def ask_bare(self, cli: OpenCli) -> None:
        """Take a turn in a CLI that is kept open."""
        prompt = self.prompt
        await cli.ask(prompt, Reply())
        self.turns += [_turn("user", prompt), _turn("assistant", _ANSWER)]


async def measure_chats(stack: Stack, *, chats: int, turns: int) -> tuple[Chats, Memory]:
    """Hold `chats` conversations of `turns` turns each, beside as many cold starts; then one long one.

    The worker must have room for `chats` live ones.
    """
    bare, gateway, warm = Bare(stack, 1), Gateway(stack), stack.settings.warm or 0
    cold: list[Reply] = []
    first: list[Reply] = []
    later: list[Reply] = []
    growth = _Growth(stack.worker)
    async with AsyncExitStack() as scope:
        opened: list[OpenCli] = []
        kept: list[psutil.Process] = []
        for number in range(chats):
            cold.append(await _asked_cold(bare))
            idle = await settled(stack.worker, number + warm)
            growth.note(number)
            chat, used_s = _Chat(), {process: cpu_s([process]) for process in idle}
            first.append(await chat.ask(gateway))
            kept.append(_busiest(used_s))
            await settled(stack.worker, len(idle) + 1)
            later += [await chat.ask(gateway) for _ in range(turns - 1)]
            if len(opened) < _MOST_OPEN:
                opened.append(await scope.enter_async_context(bare.open()))
                other = _Chat()
                for _ in range(turns):
                    await other.ask_bare(opened[-1])
        await settled(stack.worker, chats + warm)
        growth.note(chats)
        memory = _memory(turns, [cli.process for cli in opened], kept, growth.per_chat)
    seen = await _long_chat(stack, gateway)
    result = Chats(
        cold_ms=spread([reply.first_ms for reply in cold[1:]]),
        first_ms=spread([reply.first_ms for reply in first[1:]]),
        next_ms=spread([reply.first_ms for reply in later]),
        hits=hits(seen),
        turns=len(seen),
    )
    return result, memory


async def measure_resumed(stack: Stack, *, chats: int, turns: int) -> Resumed:
    """Go on with `chats` conversations, turn by turn, in processes that have ended after every turn."""
    bare, gateway = Bare(stack, 1), Gateway(stack)
    files: list[Reply] = []
    stored: list[Reply] = []
    is_same = 0
    for _ in range(chats):
        chat = _Chat()
        session_id = (await chat.ask(gateway)).session_id
        await gateway.quiet()
        for _ in range(turns - 1):
            files.append(Reply())
            await bare.resume(chat.turns, chat.prompt, files[-1])
            stored.append(await chat.ask(gateway))
            await gateway.quiet()
            is_same += stored[-1].session_id == session_id
    return Resumed(bare=wait_of(files), gateway=wait_of(stored), hits=is_same)


async def measure_seeding(stack: Stack, lengths: Sequence[int], *, rounds: int) -> list[Seeding]:
    """Give histories of `lengths` turns to a worker's processes, spare and new ones in turns.

    Without the server: it has its own mind about which of the two a history is for.
    """
    starter = _Starter(stack)
    seeded: dict[int, list[float]] = {length: [] for length in lengths}
    resumed: dict[int, list[float]] = {length: [] for length in lengths}
    for _ in range(rounds):
        for length in lengths:
            seeded[length].append(await starter.seeded_ms(length))
            resumed[length].append(await starter.resumed_ms(length))
    return [
        Seeding(turns=length, seeded_ms=spread(seeded[length]), resumed_ms=spread(resumed[length]))
        for length in lengths
    ]


async def _asked_cold(bare: Bare) -> Reply:
    reply = Reply()
    await bare.ask(_Chat().prompt, reply)
    return reply


async def _long_chat(stack: Stack, gateway: Gateway) -> list[tuple[str, frozenset[int]]]:
    """Of each turn: its session, and the worker's processes after it."""
    chat, seen = _Chat(), []
    all_kept = len(stack.worker.children())
    for number in range(_LONG_CHAT_TURNS):
        reply = await chat.ask(gateway)
        if number == 0:
            # One was taken and is replaced, and the oldest conversation has made room.
            await settled(stack.worker, all_kept)
        seen.append((reply.session_id, frozenset(child.pid for child in stack.worker.children())))
    return seen


def _busiest(used_s: dict[psutil.Process, float]) -> psutil.Process:
    """The one that has used the most CPU since it had used so much."""
    return max(used_s, key=lambda process: cpu_s([process]) - used_s[process])


class _Growth:
    """What a process grows by for each conversation it keeps."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._from = (0, 0)
        self._to = (0, 0)

    def note(self, count: int) -> None:
        """Look at it now that it keeps `count` conversations."""
        seen = count, self._process.memory_info().rss
        if count <= _WARM_UP_CHATS:
            self._from = seen
        self._to = seen

    @property
    def per_chat(self) -> float:
        """In bytes; 0 when it has not been looked at for long enough."""
        count, grown = (end - start for start, end in zip(self._from, self._to, strict=True))
        return grown / count if count else 0.0


class _Starter:
    """Starts processes as the worker does."""

    def __init__(self, stack: Stack) -> None:
        self._agent = stack.agent
        self._launcher = Launcher(stack.cli, stack.settings, stack.environ)
        self._homes = Homes(stack.directory / "seeding", Path("nowhere"))

    async def seeded_ms(self, length: int) -> float:
        """Time to the first text from a spare process that is told the history."""
        this = psutil.Process()
        others = len(this.children())
        request = _request(self._agent.name, length)
        process = await self._start(b"")
        try:
            await settled(this, others + 1)
            return await _first_ms(process, request, request.history, time.monotonic_ns())
        finally:
            await process.end()

    async def resumed_ms(self, length: int) -> float:
        """Time to the first text from a new process that resumes the history."""
        this = psutil.Process()
        await settled(this, len(this.children()))
        request = _request(self._agent.name, length)
        began_ns = time.monotonic_ns()
        process = await self._start(transcript_of(request.history))
        try:
            return await _first_ms(process, request, (), began_ns)
        finally:
            await process.end()

    async def _start(self, transcript: bytes) -> LiveProcess:
        home = self._homes.home("default", self._agent.name)
        trust(home, self._agent.directory)
        scratch = self._homes.scratch()
        path: Path | None = None
        if transcript:
            path = scratch / f"{new_session_id()}.jsonl"
            path.write_bytes(transcript)
        try:
            return await LiveProcess.start(self._launcher.plan(self._agent, home, scratch, transcript=path))
        except CliNotStartedError as error:
            raise BenchmarkError(str(error)) from error


async def _first_ms(process: LiveProcess, request: RunRequest, seeds: Sequence[Turn], began_ns: int) -> float:
    """From `began_ns` to the first text of the answer."""
    first: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def hear(lines: list[bytes]) -> None:
        if not first.done() and any(CLI.text.match(line) for line in lines):
            first.set_result(time.monotonic_ns())

    def closed(_: str | None) -> None:
        if not first.done():
            first.set_exception(BenchmarkError("A CLI that was told a history ended without an answer."))

    process.on_lines, process.on_close = hear, closed
    try:
        async with asyncio.timeout(_ANSWER_S):
            await process.claim(request, timeout_s=_ANSWER_S)
            await process.seed(messages_of(seeds))
            await process.ask(request)
            return (await first - began_ns) / 1e6
    except (TimeoutError, CliNotStartedError) as error:
        raise BenchmarkError(f"A CLI that was told a history did not answer: {error}") from error


def _request(agent: str, length: int) -> RunRequest:
    history = tuple(
        _turn("assistant", f"{number} {_FILLER}") if number % 2 else _turn("user", f"{number} {_FILLER}")
        for number in range(length)
    )
    return RunRequest(agent=agent, prompt=(TextPart(_Chat().prompt),), history=history)


def _memory(
    turns: int, bare: Sequence[psutil.Process], kept: Sequence[psutil.Process], growth: float
) -> Memory:
    bare_sizes, kept_sizes = ([_size(process) for process in side] for side in (bare, kept))
    return Memory(
        turns=turns,
        bare_count=len(bare),
        kept_count=len(kept),
        bare_rss=percentile([rss for rss, _ in bare_sizes], 50),
        kept_rss=percentile([rss for rss, _ in kept_sizes], 50),
        bare_pss=percentile([pss for _, pss in bare_sizes], 50),
        kept_pss=percentile([pss for _, pss in kept_sizes], 50),
        worker_growth=growth,
    )


def _size(process: psutil.Process) -> tuple[int, int]:
    """Resident and proportional bytes of a CLI, with the sandbox around it."""
    sizes = [each.memory_full_info() for each in (process, *process.children(recursive=True))]
    return sum(size.rss for size in sizes), sum(getattr(size, "pss", 0) for size in sizes)


def _turn(role: str, text: str) -> Turn:
    return Turn(role="assistant" if role == "assistant" else "user", parts=(TextPart(text),))


def _text(turn: Turn) -> str:
    return "".join(part.text for part in turn.parts if isinstance(part, TextPart))
