"""The proxy itself: checks who asks and for what, adds the credential, and lets the answer pass."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import structlog

from worker.gate.holds import Holds
from worker.gate.inward import Head, Inward
from worker.gate.metering import Meter
from worker.gate.outward import Outward
from worker.gate.passes import Pass, Passes
from worker.gate.refusals import RefusedError

_COUNTED = b"/v1/messages"
_PATHS = {_COUNTED, b"/v1/messages/count_tokens"}
_LEFT_OUT = {
    *(b"host", b"content-length", b"accept-encoding", b"x-api-key", b"authorization", b"expect", b"cookie"),
    *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer"),
    *(b"transfer-encoding", b"upgrade", b"proxy-connection"),
}

_log = structlog.get_logger(__name__)


class _Asked(msgspec.Struct, frozen=True):
    model: str = ""


class Proxy:
    """Serves the CLIs' calls. `headers` open the service, `models` may be called; any when there are none."""

    def __init__(
        self, headers: dict[str, str], passes: Passes, outward: Outward, models: Iterable[str] = ()
    ) -> None:
        self._added = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        self._left_out = _LEFT_OUT | {name for name, _ in self._added}
        self._passes = passes
        self._outward = outward
        self._models = frozenset(models)
        self._holds = Holds()

    def admit(self, head: Head) -> None:
        """Raise `RefusedError` for a head without a pass, or for anything but messages."""
        self._pass_of(head)
        if head.method != b"POST" or head.path not in _PATHS:
            raise RefusedError(404, "not_found_error", "Only messages are served here.")

    async def serve(self, head: Head, body: bytes, to: Inward) -> None:
        """Pass one call on, and its answer back; raises `RefusedError` while nothing was passed back."""
        issued = self._pass_of(head)
        model = self._model_of(body)
        await self._holds.wait(model)
        watch = _Watch(self._holds, model, issued if head.path == _COUNTED else None)
        try:
            await self._outward.call(self._request(head, body), body, to, watch)
        except OSError as error:  # a time-out is one too
            _log.warning("upstream_unreachable", error=str(error) or type(error).__name__)
            raise RefusedError(502, "api_error", "The model's service did not answer.") from error
        finally:
            watch.close()

    def _pass_of(self, head: Head) -> Pass:
        issued = self._passes.find(dict(head.headers))
        if issued is None:
            raise RefusedError(401, "authentication_error", "This is no pass for the model.")
        return issued

    def _model_of(self, body: bytes) -> str:
        try:
            model = _decode.decode(body).model
        except (msgspec.MsgspecError, RecursionError) as error:
            raise RefusedError(400, "invalid_request_error", "The request is no JSON object.") from error
        if self._models and model not in self._models:
            raise RefusedError(403, "permission_error", f"The model {model[:100]!r} is not allowed here.")
        return model

    def _request(self, head: Head, body: bytes) -> bytes:
        kept = [(name, value) for name, value in head.headers if name not in self._left_out]
        headers = [
            (b"host", self._outward.host),
            *kept,
            *self._added,
            (b"accept-encoding", b"identity"),  # what passes is counted
            (b"content-length", str(len(body)).encode()),
        ]
        lines = [b"%s: %s\r\n" % each for each in headers]
        return b"".join([b"POST ", self._outward.base, head.target, b" HTTP/1.1\r\n", *lines, b"\r\n"])


class _Watch:
    """Notes of an answer what it says of limits, and counts its tokens on the pass, if they are to count."""

    def __init__(self, holds: Holds, model: str, counted: Pass | None) -> None:
        self._holds = holds
        self._model = model
        self._counted = counted
        self._meter: Meter | None = None

    def on_head(self, status: int, headers: dict[str, str]) -> None:
        self._holds.note(self._model, status, headers)
        if self._counted is not None:
            is_stream = headers.get("content-type", "").startswith("text/event-stream")
            self._meter = Meter(self._counted, is_stream=is_stream)

    def on_body(self, chunk: bytes) -> None:
        if self._meter is not None:
            self._meter.feed(chunk)

    def close(self) -> None:
        if self._meter is not None:
            self._meter.close()


_decode = msgspec.json.Decoder(_Asked)
