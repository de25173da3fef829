"""A disk that is full or read-only costs an error that says so: no half file, no lost line, no restart."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from scripted_model import say
from tests.support.asking import PATH, body, check_envelope
from tests.support.batches import jsonl, line
from tests.support.model import Model
from tests.support.small_disk import SmallDisk, small_disk
from tests.support.stack import Stack, running_stack
from tests.support.waiting import wait_for

KIB = 1024


class Full(NamedTuple):
    """A stack whose files, and what its worker writes, are on small disks."""

    stack: Stack
    files: SmallDisk
    work: SmallDisk


@pytest.fixture(scope="module")
def full(model: Model) -> Iterator[Full]:
    with (
        small_disk("1m") as files,
        small_disk("4m") as work,
        running_stack(model, workers=0, slots=4) as stack,
    ):
        stack.data.mkdir(exist_ok=True)
        (stack.data / "files").symlink_to(files.path)
        stack.start_worker(data=work.path)
        stack.wait_ready()
        yield Full(stack, files, work)


def upload(stack: Stack, content: bytes, purpose: str = "user_data") -> httpx.Response:
    form = {"files": {"file": ("a.jsonl", content)}, "data": {"purpose": purpose}}
    return httpx.post(f"{stack.url}/v1/files", timeout=30, **form)  # type: ignore[arg-type]


def storage(stack: Stack) -> str | None:
    answer = httpx.get(f"{stack.url}/ready", timeout=5)
    assert answer.status_code == 200, answer.text
    said: str | None = answer.json()["storage"]
    return said


def stored(disk: SmallDisk) -> dict[str, int]:
    """The files that are on a disk, but for what fills it."""
    found = (path for path in disk.path.rglob("*") if path.is_file() and path.name != "filling")
    return {path.name: path.stat().st_size for path in found}


def fill(disk: SmallDisk) -> Callable[[], None]:
    disk.fill()
    return disk.make_room


def make_read_only(disk: SmallDisk) -> Callable[[], None]:
    disk.remount("ro")
    return lambda: disk.remount("rw")


def test_an_upload_that_does_not_fit_leaves_nothing(full: Full) -> None:
    stack, disk, _ = full
    before = stored(disk)
    error = check_envelope(upload(stack, bytes(3000 * KIB)), 507, "storage_full")
    assert "full" in error["message"]
    assert str(stack.root) not in error["message"]
    assert stored(disk) == before
    answer = upload(stack, b"small enough")
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(("harm", "words"), [(fill, "is full"), (make_read_only, "only be read")])
def test_a_storage_that_takes_nothing_says_so_until_it_does(
    full: Full, harm: Callable[[SmallDisk], Callable[[], None]], words: str
) -> None:
    stack, disk, _ = full
    kept = upload(stack, b"kept before").json()["id"]
    mend = harm(disk)
    try:
        answer = upload(stack, b"too much" * KIB)
        check_envelope(answer, 507, "storage_full")
        assert answer.headers["x-should-retry"] == "false"
        assert words in (storage(stack) or "")
        assert httpx.get(f"{stack.url}/v1/files/{kept}/content", timeout=5).content == b"kept before"
        listed = httpx.get(f"{stack.url}/v1/files", timeout=5).json()["data"]
        assert {file["id"] for file in listed} <= stored(disk).keys()
    finally:
        mend()
    assert storage(stack) is None
    made = upload(stack, b"fits again").json()
    assert httpx.get(f"{stack.url}/v1/files/{made['id']}/content", timeout=5).content == b"fits again"


def test_a_batch_waits_for_room_and_is_whole_then(full: Full, marker: str) -> None:
    stack, disk, _ = full
    numbers = range(12)
    lines = [line(str(number), f"{marker}-{number}.", say(f"Answer {number}.")) for number in numbers]
    bad = line("bad", "hello", temperature="much")
    given = upload(stack, jsonl([*lines, bad]), "batch").json()["id"]
    disk.fill()
    before = stored(disk)
    asked = {"input_file_id": given, "endpoint": PATH, "completion_window": "24h"}
    batch = httpx.post(f"{stack.url}/v1/batches", json=asked, timeout=10).json()["id"]

    def state() -> Any:
        return httpx.get(f"{stack.url}/v1/batches/{batch}", timeout=5).json()

    wait_for(lambda: _log(stack).count("batch_interrupted") > 0, 60, "the results do not fit")
    assert state()["status"] in {"in_progress", "finalizing"}
    assert state()["output_file_id"] is None
    assert stored(disk) == before
    disk.make_room()
    ended = wait_for(lambda: (said := state())["status"] == "completed" and said, 40, "the batch ends")
    output, errors = (content_of(stack, ended[f"{kind}_file_id"]) for kind in ("output", "error"))
    assert sorted(each["custom_id"] for each in output) == sorted(str(number) for number in numbers)
    for each in output:
        said = each["response"]["body"]["choices"][0]["message"]["content"]
        assert said == f"Answer {each['custom_id']}."
        assert len(stack.model.calls(f"{marker}-{each['custom_id']}.")) == 1
    assert [each["custom_id"] for each in errors] == ["bad"]


@pytest.mark.parametrize("harm", [fill, make_read_only])
def test_a_worker_whose_disk_takes_nothing_says_so_and_goes_on_when_it_does(
    full: Full, marker: str, harm: Callable[[SmallDisk], Callable[[], None]]
) -> None:
    stack, _, disk = full
    mend = harm(disk)
    try:
        answer = httpx.post(stack.url + PATH, json=body(marker, say("Never.")), timeout=50)
        error = check_envelope(answer, 507, "storage_full")
        assert str(disk.path) not in error["message"]
        assert not stack.model.calls(marker)
    finally:
        mend()
    answer = httpx.post(stack.url + PATH, json=body(marker, say("All is well.")), timeout=50)
    assert answer.status_code == 200, answer.text
    wait_for(lambda: not [*(disk.path / "scratch").glob("*")], 10, "nothing is left half made")


def content_of(stack: Stack, file_id: str) -> list[Any]:
    content = httpx.get(f"{stack.url}/v1/files/{file_id}/content", timeout=10).text
    return [json.loads(each) for each in content.splitlines()]


def _log(stack: Stack) -> str:
    return Path(stack.api.log).read_text("utf-8", "replace")
