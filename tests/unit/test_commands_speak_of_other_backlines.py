"""What commands say of an API that they did not start, or that does not know who asks."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from cli import service
from cli.main import main

_ANSWERS = {
    "/health": (200, {"version": "0.1.0", "status": "ok"}),
    "/ready": (200, {"status": "ready", "agents": [], "workers": 1, "slots": 0, "busy": 0}),
    "/v1/runs": (401, {"error": {"message": "Send it as 'Authorization: Bearer KEY'."}}),
}


class _Api(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, body = _ANSWERS[self.path.partition("?")[0]]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("BACKLINE_API_KEY", raising=False)
    with HTTPServer(("127.0.0.1", 0), _Api) as server:
        number = str(server.server_address[1])
        monkeypatch.setenv("BACKLINE_PORT", number)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield number
        finally:
            server.shutdown()
            thread.join()


def test_status_names_a_backline_of_another_terminal(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 1
    told = capsys.readouterr().err
    assert "It does not run" in told
    assert f"http://127.0.0.1:{port} was started in another terminal" in told


def test_what_is_told_only_to_those_with_a_key_is_not_shown_as_nought(port: str) -> None:
    assert asyncio.run(service._ready(f"http://127.0.0.1:{port}")) == {"ready": True, "workers": 1}


@pytest.mark.usefixtures("port")
def test_a_missing_key_is_told_in_the_words_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "list"]) == 1
    assert "export BACKLINE_API_KEY=" in capsys.readouterr().err
    assert main(["runs", "list", "--key", "bl_wrong"]) == 1
    assert "does not take this key" in capsys.readouterr().err
