"""`backline config`: which settings are in force, where each comes from, and what is wrong with them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cyclopts import App

from cli.errors import CommandError
from cli.tables import print_json, print_table, say
from shared.settings_sources import DEFAULT, Loaded, find_problems, find_strays, load_settings
from shared.settings_values import masked

config = App(name="config", help="Settings: show them with their origins, check them.")


@config.command
def show(
    name: str | None = None, /, *, origin: bool = False, given: bool = False, json: bool = False
) -> None:
    """Show every setting with its value; secrets are masked.

    Parameters
    ----------
    name
        Only this setting.
    origin
        Also where the value comes from: a flag, a variable, a file, or the default.
    given
        Only settings that somebody has given.
    json
        Print JSON, with origins.
    """
    loaded = load_settings({}, os.environ, Path.cwd())
    shown = _shown(loaded)
    if name is not None and name not in shown:
        raise CommandError(f"There is no setting {name}; `backline config show` lists them.", code=2)
    if name is not None:
        shown = {name: shown[name]}
    if given:
        shown = {field: each for field, each in shown.items() if each["origin"] != DEFAULT}
    if json:
        print_json(shown)
        return
    rows = [(field, each["value"], each["origin"]) for field, each in shown.items()]
    if origin:
        print_table(("setting", "value", "origin"), rows)
    else:
        print_table(("setting", "value"), [row[:2] for row in rows])


@config.command
def check() -> None:
    """Check all settings at once; the exit code is 1 if something is wrong."""
    cwd = Path.cwd()
    for name, meant in find_strays(os.environ).items():
        sys.stderr.write(f"Nobody reads the variable {name}; is {meant} meant?\n")
    problems = find_problems(os.environ, cwd)
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    if problems:
        raise CommandError(f"{len(problems)} of the settings cannot be used.")
    loaded = load_settings({}, os.environ, cwd)
    given = sum(origin != DEFAULT for origin in loaded.origins.values())
    say(f"The settings are good: {given} given, {len(loaded.origins) - given} defaults.")


def _shown(loaded: Loaded) -> dict[str, dict[str, str]]:
    values = ((field, getattr(loaded.settings, field)) for field in loaded.origins)
    return {
        field: {"value": masked(field, value), "origin": loaded.origins[field]} for field, value in values
    }
