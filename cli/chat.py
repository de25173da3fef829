"""`backline chat`: a conversation with an agent at the terminal, over the HTTP API of any Backline."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cli.errors import CommandError
from cli.over_http import Key, Url, answer_of, asking

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

_READ_S = 600.0
"""Longer than any silence of a stream: the API says that it is alive every few seconds."""
_HELP = "/new begins anew, /quit ends; Ctrl-C stops an answer. A line that ends in \\ goes on in the next."


def chat(agent: str, /, *, system: str | None = None, url: Url = None, key: Key = None) -> None:
    """Talk to an agent. Without a terminal, standard input is the message: `echo hi | backline chat NAME`.

    Parameters
    ----------
    agent
        Its name, or `agent/claude-model`.
    system
        Instructions to put before the conversation.
    """
    with asking(url, key) as http:
        talk = Talk(http, agent, system)
        if not sys.stdin.isatty():
            message = sys.stdin.read().strip()
            if not message:
                raise CommandError("Standard input is empty: there is no message.", code=2)
            if not talk.say(message):
                raise KeyboardInterrupt
            return
        sys.stdout.write(f"{agent} at {http.base_url}. {_HELP}\n")
        _converse(talk)


class Talk:
    """A conversation: what was said, and what is said next."""

    def __init__(self, http: httpx.Client, agent: str, system: str | None) -> None:
        self._http = http
        self._agent = agent
        self._opening = [{"role": "system", "content": system}] if system else []
        self.messages = list(self._opening)

    def begin_anew(self) -> None:
        """Forget what was said."""
        self.messages = list(self._opening)

    def say(self, message: str) -> bool:
        """Say something and show the answer as it comes; gives whether that came to its end.

        Raises `CommandError` or `httpx.TransportError`: then nothing was said. Ctrl-C
        stops the answer, and what had come of it stays in the conversation.
        """
        self.messages.append({"role": "user", "content": message})
        body = {"model": self._agent, "stream": True, "messages": self.messages}
        screen, is_whole = _screen(), False
        try:
            with suppress(KeyboardInterrupt), screen:
                for text in _texts(self._http, body):
                    screen.add(text)
                is_whole = True
        except BaseException:
            self.messages.pop()
            raise
        if screen.text:
            self.messages.append({"role": "assistant", "content": screen.text})
        else:  # it was stopped before it had begun
            self.messages.pop()
        return is_whole


def pieces(lines: Iterator[str]) -> Iterator[str]:
    """The texts of a stream of chunks (OpenAI, chat completions); raises `CommandError` for its error."""
    for line in lines:
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:") or data == "[DONE]":
            continue
        chunk: dict[str, Any] = json.loads(data)
        if error := chunk.get("error"):
            raise CommandError(str(error.get("message") or error))
        for choice in chunk.get("choices") or ():
            if text := (choice.get("delta") or {}).get("content"):
                yield text


class _Plain:
    """Writes an answer as it comes."""

    def __init__(self) -> None:
        self.text = ""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        sys.stdout.write("" if self.text.endswith("\n") else "\n")
        sys.stdout.flush()

    def add(self, text: str) -> None:
        """Show a further piece."""
        self.text += text
        sys.stdout.write(text)
        sys.stdout.flush()


class _Rendered:
    """Shows an answer as Markdown, anew with each piece."""

    def __init__(self) -> None:
        from rich.live import Live  # noqa: PLC0415 - imported here so that --help is quick
        from rich.markdown import Markdown  # noqa: PLC0415

        self.text = ""
        self._render = Markdown
        self._live = Live(auto_refresh=True, refresh_per_second=8, vertical_overflow="visible")

    def __enter__(self) -> None:
        self._live.start()

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def add(self, text: str) -> None:
        """Show a further piece; what would move the cursor, or do worse to a terminal, is left out."""
        self.text += "".join(each for each in text if each.isprintable() or each in "\n\t")
        self._live.update(self._render(self.text))


def _screen() -> _Plain | _Rendered:
    return _Rendered() if sys.stdout.isatty() else _Plain()


def _texts(http: httpx.Client, body: dict[str, Any]) -> Iterator[str]:
    with http.stream("POST", "/v1/chat/completions", json=body, timeout=_READ_S) as answer:
        if answer.status_code != 200:
            answer.read()
            answer_of(answer)
        yield from pieces(answer.iter_lines())


def _converse(talk: Talk) -> None:
    import httpx  # noqa: PLC0415 - imported here so that --help is quick

    with suppress(ImportError):
        import readline  # noqa: F401, PLC0415 - editing and recall of lines, where there is any
    while (message := _line()) is not None:
        match message.strip():
            case "":
                continue
            case "/quit" | "/exit":
                return
            case "/new":
                talk.begin_anew()
                sys.stdout.write("A new conversation.\n")
            case "/help":
                sys.stdout.write(f"{_HELP}\n")
            case said if said.startswith("/") and " " not in said:
                sys.stdout.write(f"There is no {said}. {_HELP}\n")
            case said:
                try:
                    talk.say(said)
                except (CommandError, httpx.TransportError) as error:
                    sys.stdout.write(f"{error}\n")


def _line() -> str | None:
    """What is typed next; `None` at the end of input, an empty text after Ctrl-C."""
    typed = ""
    try:
        while (line := input("… " if typed else "> ")).endswith("\\"):
            typed += line[:-1] + "\n"
    except EOFError:
        sys.stdout.write("\n")
        return None
    except KeyboardInterrupt:
        sys.stdout.write("\n")
        return ""
    return typed + line
