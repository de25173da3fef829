"""`backline chaos`: break a private Backline on this machine, and see whether its promises hold."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from chaos.check import check
from chaos.report import report
from chaos.soak import Plan
from chaos.soak import soak as session
from chaos.stand import Programs
from chaos.steady import Steady, lines_of, steady
from cli.credentials import without_credentials
from cli.embedded_redis import server_binary
from cli.errors import CommandError
from cli.lifeline import Lifeline, lifeline, python
from shared.settings import Settings
from shared.settings_sources import without_settings
from worker.claude.launch import find_cli

_PROXIES = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"}


def chaos(
    *,
    minutes: Annotated[float, Parameter(validator=Number(gt=0, lte=24 * 60))] = 1.0,
    seed: int | None = None,
    clients: Annotated[int, Parameter(validator=Number(gte=1, lte=200))] = 6,
    every: Annotated[float | None, Parameter(validator=Number(gte=1, lte=600))] = None,
    soak: Annotated[bool, Parameter(negative=())] = False,
    baseline: Annotated[bool, Parameter(negative=())] = False,
    history: Path | None = None,
    keep: Path | None = None,
) -> None:
    """Break a private Backline with a scripted model on purpose, and check what its clients see.

    It kills, stops and cuts off APIs, workers and Valkey, and ends with 1 when a promise was not kept.

    Parameters
    ----------
    minutes
        How long to break things.
    seed
        Draws the same faults again.
    clients
        How many ask at a time.
    every
        Only kill -9, of any process, Valkey too: one each so many seconds.
    soak
        Break nothing: keep two thirds of the slots busy, one for each client, and see what grows.
    baseline
        Break a plain gateway instead, a job of ARQ and a channel of Redis, by the same clients and judge.
    history
        File for all that was seen, as JSON lines.
    keep
        Directory for the processes' logs and data, which are deleted otherwise.
    """
    if keep is not None and keep.exists():
        raise CommandError(f"{keep} is there already: name a directory that is not.")
    drawn = random.randrange(1_000_000)  # noqa: S311 - no secret, and short enough to be typed again
    plan = Plan(
        seed=drawn if seed is None else seed,
        minutes=minutes,
        clients=clients,
        kill_every_s=every,
        is_plain=baseline,
    )
    with lifeline() as line:
        try:
            if soak:
                _show(asyncio.run(steady(minutes, clients, plan.seed, programs(line), _tell)))
                return
            seen = asyncio.run(session(plan, programs(line), _tell, keep.absolute() if keep else None))
        except TimeoutError as error:
            raise CommandError("What is to be broken did not get ready.") from error
    if history is not None:
        seen.write(history)
    violations = check(seen)
    sys.stdout.write(report(seen, violations) + "\n")
    if violations and not baseline:
        raise CommandError(f"{len(violations)} promises were not kept; the seed is {plan.seed}.")


def _show(found: Steady) -> None:
    sys.stdout.write("".join(f"{name:<30}{value}\n" for name, value in lines_of(found)))
    if found.failures or found.left:
        raise CommandError("\n".join(["Not all went well without a fault.", *found.left]))


def programs(line: Lifeline) -> Programs:
    """How this installation starts the parts of a stand; they end with the lifeline."""
    environ = without_credentials(without_settings(os.environ))
    return Programs(
        python=lambda module, *arguments: python(line, "run", module, *arguments),
        watch=lambda pid: python(line, "end", str(pid)),
        valkey=server_binary(),
        claude=str(find_cli(Settings())),
        environ={name: value for name, value in environ.items() if name.upper() not in _PROXIES},
        pass_fds=(line.read,),
    )


def _tell(words: str) -> None:
    sys.stderr.write(words + "\n")
