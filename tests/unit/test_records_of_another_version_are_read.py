"""While processes are replaced one by one, each reads what older and newer ones have written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from shared.agent_reports import AgentPolicy, AgentReport, Inventory, decode_reports
from shared.content import TextPart, Turn
from shared.registry import Registry, WorkerRecord
from shared.run_events import (
    ErrorKind,
    RunCancelled,
    RunCompleted,
    RunError,
    RunFailed,
    Usage,
    decode_event,
    encode_event,
)
from shared.runs import RunRequest, decode_request, encode_request

USAGE = Usage(1, 2, 3, 4, 0.5)
REQUEST = RunRequest(
    agent="agent",
    prompt=(TextPart("Hello."),),
    history=(Turn("user", (TextPart("Before."),)), Turn("assistant", (TextPart("Yes."),))),
    model="opus",
    tenant="t",
    request_id="req_1",
    timeout_s=9.0,
    prefix="p",
)
WORKER = WorkerRecord(id="w", host="h", agents=("agent",), slots=4, busy=1, cli_version="2.1")
REPORT = AgentReport("agent", AgentPolicy(permission_mode="dontAsk"), ("Bad.",), Inventory(("Read",)))
WRITTEN = {
    "request": "de0009a56167656e74a56167656e74a6"
    "70726f6d70749182a474797065a474657874a474657874a648656c6c6f2ea768"
    "6973746f72799282a4726f6c65a475736572a570617274739182a474797065a474657874a474657874a74265666f7265"
    "2e82a4726f6c65a9617373697374616e74a570617274739182a474797065a474657874a474657874a45965732ea56d6f"
    "64656ca46f707573a674656e616e74a174aa726571756573745f6964a57265715f31a974696d656f75745f73cb402200"
    "0000000000a6707265666978a170a76f7074696f6e7380",
    "completed": "96a9636f6d706c65746564a473746f709501020304cb3fe0000000000000a173a16da0",
    "failed": "93a66661696c656493ab776f726b65725f6c6f7374a5476f6e652ec09501020304cb3fe0000000000000",
    "cancelled": "93a963616e63656c6c6564bd54686520636c69656e742063616e63656c6c6564207468652072756e2e"
    "9501020304cb3fe0000000000000",
    "worker": "88a26964a177a4686f7374a168a66167656e747391a56167656e74a5736c6f747304a46275737901"
    "ab636c695f76657273696f6ea3322e31a46c69766500a870726f6a6563747390",
}
"""As the version wrote them that first went on elsewhere with a turn whose worker was lost."""


def read_worker(data: bytes) -> WorkerRecord:
    return msgspec.msgpack.decode(data, type=WorkerRecord)


def read_report(data: bytes) -> AgentReport:
    return decode_reports(b"\x91" + data)["agent"]


READ: list[tuple[str, Callable[[bytes], Any], Any]] = [
    ("request", decode_request, REQUEST),
    ("completed", decode_event, RunCompleted("stop", USAGE, "s", "m", "")),
    ("failed", decode_event, RunFailed(RunError(ErrorKind.WORKER_LOST, "Gone."), USAGE)),
    ("cancelled", decode_event, RunCancelled("The client cancelled the run.", USAGE)),
    ("worker", read_worker, WORKER),
]


def test_a_kind_of_failure_that_is_not_known_yet_is_read_as_any() -> None:
    newer = msgspec.msgpack.encode(["made_up_later", "It is too warm.", None])
    assert msgspec.msgpack.decode(newer, type=RunError) == RunError(ErrorKind.INTERNAL, "It is too warm.")


@pytest.mark.parametrize(("name", "read", "meant"), READ)
def test_what_an_older_version_wrote_means_the_same(
    name: str, read: Callable[[bytes], Any], meant: Any
) -> None:
    assert read(bytes.fromhex(WRITTEN[name])) == meant


@pytest.mark.parametrize(
    ("written", "read", "meant"),
    [
        (encode_request(REQUEST), decode_request, REQUEST),
        (encode_event(READ[1][2]), decode_event, READ[1][2]),
        (encode_event(READ[2][2]), decode_event, READ[2][2]),
        (msgspec.msgpack.encode(WORKER), read_worker, WORKER),
        (msgspec.msgpack.encode(REPORT), read_report, REPORT),
    ],
)
def test_what_a_newer_version_added_is_passed_over(
    written: bytes, read: Callable[[bytes], Any], meant: Any
) -> None:
    """Fields are only ever added: to a map by name, to an array at its end."""
    said = msgspec.msgpack.decode(written)
    if isinstance(said, dict):
        said["from_the_future"] = [1]
    else:
        said.append("from the future")
    assert read(msgspec.msgpack.encode(said)) == meant


def test_a_worker_of_an_older_version_is_seen() -> None:
    assert Registry(workers=(read_worker(bytes.fromhex(WRITTEN["worker"])),)).serves("agent", "")
