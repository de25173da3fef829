"""`backline cache`: cached answers; over HTTP, with an admin's key."""

from __future__ import annotations

from cyclopts import App

from cli.over_http import Key, Url, answer_of, asking
from cli.tables import print_json, say

app = App(name="cache", help="Cached answers: clear.")


@app.command
def clear(
    *,
    tenant: str | None = None,
    agent: str | None = None,
    json: bool = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Forget cached answers, and say how many there were.

    Parameters
    ----------
    tenant
        Only this tenant's.
    agent
        Only this agent's.
    json
        Print JSON.
    """
    wish = {"tenant": tenant, "agent": agent}
    given = {name: word for name, word in wish.items() if word is not None}
    with asking(url, key) as http:
        done = answer_of(http.delete("/v1/admin/cache", params=given))
    print_json(done) if json else say(f"Cleared {done['cleared']}.")
