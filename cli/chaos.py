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
from chaos.soak import Plan, soak
from chaos.stand import Programs
from cli.credentials import without_credentials
from cli.embedded_redis import server_binary
from cli.errors import CommandError
from cli.lifeline import Lifeline, lifeline, python
from shared.settings_sources import without_settings

_PROXIES = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"}


def chaos(
    *,
    minutes: Annotated[float, Parameter(validator=Number(gt=0, lte=24 * 60))] = 1.0,
    seed: int | None = None,
    clients: Annotated[int, Parameter(validator=Number(gte=1, lte=200))] = 6,
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
    history
        File for all that was seen, as JSON lines.
    keep
        Directory for the processes' logs and data, which are deleted otherwise.
    """
    drawn = random.randrange(1_000_000)  # noqa: S311 - no secret, and short enough to be typed again
    plan = Plan(seed=drawn if seed is None else seed, minutes=minutes, clients=clients)
    with lifeline() as line:
        try:
            seen = asyncio.run(soak(plan, programs(line), _tell, keep.absolute() if keep else None))
        except TimeoutError as error:
            raise CommandError("The private Backline did not get ready.") from error
    if history is not None:
        seen.write(history)
    violations = check(seen)
    sys.stdout.write(report(seen, violations) + "\n")
    if violations:
        raise CommandError(f"{len(violations)} promises were not kept; the seed is {plan.seed}.")


def programs(line: Lifeline) -> Programs:
    """How this installation starts the parts of a stand; they end with the lifeline."""
    environ = without_credentials(without_settings(os.environ))
    return Programs(
        python=lambda module, *arguments: python(line, "run", module, *arguments),
        watch=lambda pid: python(line, "end", str(pid)),
        valkey=server_binary(),
        environ={name: value for name, value in environ.items() if name.upper() not in _PROXIES},
        pass_fds=(line.read,),
    )


def _tell(words: str) -> None:
    sys.stderr.write(words + "\n")
