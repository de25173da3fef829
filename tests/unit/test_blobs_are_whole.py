"""A blob is there whole or not at all, for its own tenant; in a directory and in an S3 bucket alike."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import obstore
import pytest
from obstore.store import S3Store

from shared.blob_bucket import BlobBucket
from shared.blob_directory import BlobDirectory
from shared.blobs import BlobError, BlobGoneError, Blobs
from tests.support.waiting import wait_for

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URL of an empty bucket of a real S3-compatible server."""
    with subprocess.Popen(
        [sys.executable, "-c", _SERVE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        try:
            yield from _bucket_at(server.stdout.readline().strip())
        finally:
            server.terminate()


def _bucket_at(endpoint: str) -> Iterator[str]:
    environ = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        wait_for(lambda: httpx.put(f"{endpoint}/blobs").status_code == 200, 20, "the bucket is there")
        yield "s3://blobs"


_SERVE = """
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print("http://%s:%s" % server.get_host_and_port(), flush=True)
server._thread.join()
"""


@pytest.fixture(params=["directory", "bucket"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    if request.param == "directory":
        return BlobDirectory(tmp_path / "files")
    return BlobBucket(f"{request.getfixturevalue('bucket')}/{uuid4().hex}/deeper")


async def pieces(*given: bytes, fails: bool = False) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece
    if fails:
        raise RuntimeError("The client hung up.")


async def content(blobs: Blobs, tenant: str, name: str) -> bytes:
    return b"".join([piece async for piece in blobs.read(tenant, name)])


async def test_what_was_written_is_read_and_can_be_replaced(blobs: Blobs) -> None:
    assert await blobs.write("t", "file-1", pieces(b"one ", b"two")) == 7
    assert await content(blobs, "t", "file-1") == b"one two"
    assert await blobs.write("t", "file-1", pieces(b"three")) == 5
    assert await content(blobs, "t", "file-1") == b"three"


async def test_a_large_blob_comes_back_in_pieces(blobs: Blobs) -> None:
    block = os.urandom(MIB)
    assert await blobs.write("t", "file-1", pieces(*[block] * 20)) == 20 * MIB
    read = [piece async for piece in blobs.read("t", "file-1")]
    assert b"".join(read) == block * 20
    assert max(map(len, read)) < 11 * MIB


async def test_a_write_that_breaks_off_leaves_what_was_there(blobs: Blobs) -> None:
    await blobs.write("t", "file-1", pieces(b"old"))
    for name in ("file-1", "file-2"):
        with pytest.raises(RuntimeError):
            await blobs.write("t", name, pieces(b"x" * MIB, fails=True))
    assert await content(blobs, "t", "file-1") == b"old"
    with pytest.raises(BlobGoneError):
        await content(blobs, "t", "file-2")
    assert [blob.name async for blob in blobs.all()] == ["file-1"]


async def test_tenants_do_not_meet_and_names_of_others_lead_nowhere(blobs: Blobs) -> None:
    await blobs.write("one", "file-1", pieces(b"mine"))
    with pytest.raises(BlobGoneError):
        await content(blobs, "two", "file-1")
    await blobs.delete("two", "file-1")
    assert await content(blobs, "one", "file-1") == b"mine"


async def test_what_was_deleted_is_gone_and_may_be_deleted_again(blobs: Blobs) -> None:
    await blobs.write("t", "file-1", pieces(b"mine"))
    (blob,) = [blob async for blob in blobs.all()]
    assert blob.name == "file-1"
    assert blob.age_s < 60
    await blobs.discard(blob)
    await blobs.delete("t", "file-1")
    assert [blob async for blob in blobs.all()] == []


async def test_files_are_private_and_old_leftovers_are_swept(tmp_path: Path) -> None:
    root = tmp_path / "data" / "files"
    blobs = BlobDirectory(root)
    await blobs.write("t", "file-1", pieces(b"mine"))
    modes = {stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*") if path.is_dir()}
    assert modes | {stat.S_IMODE(root.stat().st_mode)} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*") if path.is_file()} == {0o600}
    old, young = root / ".incoming" / "old", root / ".incoming" / "young"
    old.touch()
    young.touch()
    os.utime(old, (0, time.time() - 2 * 24 * 3600))
    assert [blob.name async for blob in blobs.all()] == ["file-1"]
    assert (old.exists(), young.exists()) == (False, True)


async def test_a_storage_that_does_not_do_as_asked_says_so(tmp_path: Path) -> None:
    (tmp_path / "files").write_text("in the way")
    with pytest.raises(BlobError):
        await BlobDirectory(tmp_path / "files").write("t", "file-1", pieces(b"x"))


async def test_a_bucket_that_is_not_there_says_so(bucket: str) -> None:
    blobs = BlobBucket("s3://no-such-bucket/x")
    with pytest.raises(BlobError):
        await blobs.write("t", "file-1", pieces(b"x"))
    with pytest.raises(BlobError):
        _ = [blob async for blob in blobs.all()]


async def test_an_upload_that_breaks_off_in_its_second_part_leaves_no_object(bucket: str) -> None:
    blobs = BlobBucket(f"{bucket}/parts")
    with pytest.raises(RuntimeError):
        await blobs.write("t", "file-1", pieces(*[b"x" * MIB] * 12, fails=True))
    found = [each async for page in obstore.list(S3Store("blobs"), prefix="parts") for each in page]
    assert found == []
