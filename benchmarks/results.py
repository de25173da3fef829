"""What the measurements give."""

from __future__ import annotations

import msgspec

from benchmarks.figures import Spread


class Wait(msgspec.Struct, frozen=True):
    """One side's time from the request to the first text, and to the end of the reply, in ms."""

    first_ms: Spread
    total_ms: Spread


class FirstToken(msgspec.Struct, frozen=True):
    """A short reply from a cold process, both ways."""

    bare: Wait
    gateway: Wait


class Cpu(msgspec.Struct, frozen=True):
    """CPU seconds of each part while `tokens` were streamed; a part that took no part has 0."""

    tokens: int = 0
    cli_s: float = 0.0
    worker_s: float = 0.0
    redis_s: float = 0.0
    api_s: float = 0.0
    model_s: float = 0.0
    client_s: float = 0.0

    def __add__(self, other: Cpu) -> Cpu:
        """The two together."""
        return Cpu(*(getattr(self, name) + getattr(other, name) for name in self.__struct_fields__))

    @property
    def own_s(self) -> float:
        """CPU of Backline's own processes."""
        return self.api_s + self.worker_s


class Streaming(msgspec.Struct, frozen=True):
    """One side, streaming: from a token's sending by the model to its receipt by the client."""

    delay_ms: Spread
    cpu: Cpu


class Streams(msgspec.Struct, frozen=True):
    """So many streams at once, both ways."""

    streams: int
    bare: Streaming
    gateway: Streaming


class Throughput(msgspec.Struct, frozen=True):
    """One-token replies per second at one concurrency, both ways on the same number of slots."""

    concurrency: int
    slots: int
    requests: int
    bare_per_s: float
    gateway_per_s: float


class Chats(msgspec.Struct, frozen=True):
    """Time to first text in ms of a cold bare CLI, and of the gateway's turns in conversations kept live."""

    cold_ms: Spread
    first_ms: Spread
    """A first turn, with a spare process waiting."""
    next_ms: Spread
    """A later turn, from a client that sends its whole history."""
    hits: int
    """Turns of one long chat that its own live process answered."""
    turns: int
    """Turns of that chat; the first cannot hit."""


class Memory(msgspec.Struct, frozen=True):
    """Bytes of an idle CLI after `turns` turns, both ways: the median of so many processes."""

    turns: int
    bare_count: int
    kept_count: int
    bare_rss: float
    kept_rss: float
    bare_pss: float
    """Proportional set size; 0 where the system does not tell."""
    kept_pss: float
    worker_growth: float
    """What the worker itself grew by for each conversation it keeps."""


class Resumed(msgspec.Struct, frozen=True):
    """Turns of a conversation that no process holds: from a transcript file, and from Redis."""

    bare: Wait
    gateway: Wait
    hits: int
    """How many of the gateway's went on in the session before."""


class Seeding(msgspec.Struct, frozen=True):
    """Time to first text in ms after a history of so many turns that the server does not know."""

    turns: int
    seeded_ms: Spread
    """Told to a spare process turn by turn."""
    resumed_ms: Spread
    """Resumed by a new process from a transcript made of it."""


class BesideBatch(msgspec.Struct, frozen=True):
    """Time to first text in ms of requests to an idle system, and to one with a batch of so many `lines`."""

    lines: int
    idle_ms: Spread
    beside_ms: Spread
    line_bytes: float
    """What a line has itself, in its file."""
    redis_bytes: float
    """What Redis holds for each line that waits, the records of those under way included."""


class BatchRate(msgspec.Struct, frozen=True):
    """Lines per second, from the accepting of a batch to its files, beside bare CLIs on the same slots."""

    lines: int
    slots: int
    bare_per_s: float
    batch_per_s: float


class Asked(msgspec.Struct, frozen=True):
    """Requests to one API: time to the end of the answer, and CPU of API and Redis meanwhile, in ms."""

    took_ms: Spread
    cpu_ms: Spread


class KeyCost(msgspec.Struct, frozen=True):
    """An answer from the cache without keys, and with a key that has every limit."""

    keys: int
    """How many there are where there are many."""
    added_ms: float
    """What the only key adds: the median over pairs of requests that were made one right after another."""
    added_by_many_ms: float
    """What many keys add to that, likewise."""
    without: Asked
    one: Asked
    """The only key there is."""
    many: Asked
    """One of many, asked with again and again."""
    others: Asked
    """Another of them each time, so that the API has not met it lately."""


class PageCost(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the dashboard, from its request on, in ms."""

    name: str
    rows: int
    size_bytes: int
    served_ms: Spread
    """To its last byte."""
    painted_ms: Spread | None
    """To the frame in which a browser shows it; `None` where there is none."""


class Dashboard(msgspec.Struct, frozen=True, kw_only=True):
    """Pages of a list of so many runs; what the API takes of a core without a page, and with one open."""

    runs: int
    pages: list[PageCost]
    idle_s: float
    closed_cpu: float
    open_cpu: float | None


class Peak(msgspec.Struct, frozen=True):
    """The most memory our processes had resident in the whole run, in bytes."""

    api_bytes: int = 0
    worker_bytes: int = 0

    def __or__(self, other: Peak) -> Peak:
        """The higher of each."""
        return Peak(max(self.api_bytes, other.api_bytes), max(self.worker_bytes, other.worker_bytes))


class Host(msgspec.Struct, frozen=True):
    """What was measured, and where."""

    date: str
    commit: str
    cpu_model: str
    cores: int
    python: str
    cli: str
    redis: str
    command: str


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """All of a run; a part that was not asked for is empty."""

    host: Host
    took_s: float
    others: float = 0.0
    """The share of the machine that other processes used meanwhile."""
    pace_ms: float
    first_token: FirstToken | None = None
    streams: list[Streams] = []
    throughput: list[Throughput] = []
    chats: Chats | None = None
    memory: Memory | None = None
    resumed: Resumed | None = None
    seeding: list[Seeding] = []
    beside_batch: BesideBatch | None = None
    batch_rate: BatchRate | None = None
    key_cost: KeyCost | None = None
    dashboard: Dashboard | None = None
    peak: Peak = Peak()
