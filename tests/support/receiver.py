"""A server on loopback that takes webhooks, and answers as its paths say."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from uuid import uuid4

import msgspec


class Received(NamedTuple):
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def event_id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> dict[str, object]:
        return msgspec.json.decode(self.body, type=dict[str, object])


class Receiver:
    """`/…` answers 204; `/status/S/…` answers S; `/fail/N/…` fails N times first.

    `/hang/…` keeps silent until `closing`.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.received: list[Received] = []
        self.closing = threading.Event()

    def endpoint(self, kind: str = "") -> str:
        """A URL of its own."""
        return f"{self.url}{kind}/{uuid4().hex}"

    def at(self, endpoint: str) -> list[Received]:
        """What came there, in order."""
        return [one for one in list(self.received) if self.url + one.path == endpoint]

    def status(self, path: str) -> int:
        """What the newest request there is answered with."""
        match path.split("/")[1:]:
            case ["status", code, *_]:
                return int(code)
            case ["fail", times, *_]:
                return 500 if len(self.at(self.url + path)) <= int(times) else 204
        return 204


@contextmanager
def running_receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.received.append(Received(self.path, headers, body))
            if self.path.startswith("/hang/") and not receiver.closing.is_set():
                receiver.closing.wait(60)
                return
            status = receiver.status(self.path)
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("location", receiver.url + "/redirected")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver = Receiver(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
