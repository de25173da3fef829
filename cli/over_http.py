"""The API as commands ask it: where it is, with which key, and its own words for what went wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from cli.errors import CommandError
from shared.settings_sources import API_KEY, load_settings

if TYPE_CHECKING:
    import httpx

_TIMEOUT_S = 60.0

Url = Annotated[str | None, Parameter(help="Where the API is, such as http://127.0.0.1:9000.")]
Key = Annotated[
    str | None, Parameter(help=f"The API key. Who lists processes sees it here, but not in {API_KEY}.")
]


@contextmanager
def asking(url: str | None, key: str | None = None) -> Iterator[httpx.Client]:
    """A client of the API; raises `CommandError` when it does not answer."""
    import httpx  # noqa: PLC0415 - imported here so that --help is quick

    from cli.banner import base_url  # noqa: PLC0415

    loaded = load_settings({}, os.environ, Path.cwd())
    url = url or base_url(loaded.settings.host, loaded.settings.port)
    key = key or loaded.environ.get(API_KEY)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        with httpx.Client(base_url=url, timeout=_TIMEOUT_S, headers=headers) as http:
            yield http
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise CommandError(f"The API at {url} does not answer: {error}") from error


def answer_of(answer: httpx.Response) -> dict[str, Any]:
    """The answer's object; raises `CommandError` with the API's own words for an error."""
    try:
        found: dict[str, Any] = answer.json()
        error = found.get("error") if answer.status_code != 200 else None
    except (ValueError, AttributeError) as bad:
        raise CommandError(f"{answer.url} is not an API of Backline.") from bad
    if answer.status_code != 200:
        if answer.status_code == 401:
            raise CommandError(_wants_a_key(answer))
        said = error.get("message") if isinstance(error, dict) else None
        raise CommandError(said or f"{answer.url} answered with HTTP {answer.status_code}.")
    return found


def _wants_a_key(answer: httpx.Response) -> str:
    """In the words of the command line: the API's own speak of a header."""
    at = f"{answer.url.scheme}://{answer.url.netloc.decode()}"
    if "authorization" in answer.request.headers:
        return f"The API at {at} does not take this key: see `backline keys list`."
    return f"The API at {at} asks for a key: export {API_KEY}=… (`backline keys create --name me` makes one)."
