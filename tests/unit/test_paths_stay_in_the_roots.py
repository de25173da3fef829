"""A path of a client's is read only inside the roots, and a refusal does not tell what is outside."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from api.media import roots
from api.media.roots import read_below
from api.media.sources import MediaError

REFUSED = "It must be a file in a directory that this server allows."


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "a.png").write_bytes(b"inside")
    (root / "sub/b.png").write_bytes(b"below")
    (tmp_path / "secret").write_bytes(b"outside")
    (tmp_path / "root-too").mkdir()
    (tmp_path / "root-too/c.png").write_bytes(b"outside")
    return root


def test_files_in_the_root_are_read(root: Path) -> None:
    assert read_below([root], f"{root}/a.png", 100) == b"inside"
    assert read_below([root], f"{root}/sub/b.png", 100) == b"below"
    assert read_below([root], f"{root}/sub/../a.png", 100) == b"inside"
    assert read_below([root / "sub", root], f"{root}//a.png", 100) == b"inside"


def test_links_inside_are_followed_and_a_root_may_be_one(root: Path, tmp_path: Path) -> None:
    (root / "link.png").symlink_to("sub/b.png")
    (tmp_path / "alias").symlink_to(root)
    assert read_below([root], f"{root}/link.png", 100) == b"below"
    assert read_below([tmp_path / "alias"], f"{tmp_path}/alias/a.png", 100) == b"inside"
    assert read_below([tmp_path / "alias"], f"{root}/a.png", 100) == b"inside"


OUTSIDE: dict[str, Callable[[Path], str]] = {
    "a file outside": lambda root: f"{root.parent}/secret",
    "a file that is not there": lambda root: f"{root.parent}/missing",
    "a file in the root that is not there": lambda root: f"{root}/missing",
    "dots": lambda root: f"{root}/../secret",
    "dots after a missing directory": lambda root: f"{root}/missing/../a.png",
    "a neighbour that begins alike": lambda root: f"{root}-too/c.png",
    "a relative path": lambda _: "a.png",
    "an empty path": lambda _: "",
    "the root itself": str,
    "a directory": lambda root: f"{root}/sub",
    "a file taken for a directory": lambda root: f"{root}/a.png/x",
    "a NUL byte": lambda root: f"{root}/a.png\0.txt",
    "a long name": lambda root: f"{root}/{'x' * 5000}",
    "half a character": lambda root: f"{root}/\ud800",
    "the environment": lambda _: "/proc/self/environ",
    "by way of proc": lambda root: f"/proc/self/root{root}/a.png",
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_everything_else_is_refused_alike(root: Path, name: str) -> None:
    with pytest.raises(MediaError) as refused:
        read_below([root], OUTSIDE[name](root), 100)
    assert str(refused.value) == REFUSED


def test_without_roots_nothing_is_read(root: Path) -> None:
    for allowed in ([], [root / "missing"], [root / "a.png"]):
        with pytest.raises(MediaError, match=REFUSED):
            read_below(allowed, f"{root}/a.png", 100)


@pytest.mark.parametrize("target", ["../secret", "/proc/self/environ", "loop", "../root-too", "/dev/zero"])
def test_a_link_that_leads_out_is_refused(root: Path, target: str) -> None:
    (root / "loop").symlink_to(target)
    for path in (f"{root}/loop", f"{root}/loop/c.png"):
        with pytest.raises(MediaError) as refused:
            read_below([root], path, 100)
        assert str(refused.value) == REFUSED


@pytest.mark.parametrize(
    "path", ["/proc/self/environ", "/proc/self/root/etc/passwd", "/dev/zero", "/sys/kernel/notes"]
)
def test_the_kernels_files_are_refused_even_below_a_root(path: str) -> None:
    if path == "/proc/self/root/etc/passwd":  # it is /etc/passwd, which a root of / allows
        assert read_below([Path("/")], path, 1_000_000) == Path("/etc/passwd").read_bytes()
        return
    with pytest.raises(MediaError, match=REFUSED):
        read_below([Path("/")], path, 100)


def test_a_pipe_does_not_hold_the_reader_up(root: Path) -> None:
    os.mkfifo(root / "pipe")
    with pytest.raises(MediaError, match=REFUSED):
        read_below([root], f"{root}/pipe", 100)


def test_a_link_put_there_after_the_check_is_not_followed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve_then_swap(allowed: object, path: str) -> tuple[Path, Path]:
        found = real(allowed, path)
        (root / "sub/b.png").unlink()
        (root / "sub").rmdir()
        (root / "sub").symlink_to(root.parent / "root-too")
        return found

    real: Callable[[object, str], tuple[Path, Path]] = roots._resolve  # type: ignore[assignment]
    monkeypatch.setattr(roots, "_resolve", resolve_then_swap)
    (root.parent / "root-too/b.png").write_bytes(b"outside")
    with pytest.raises(MediaError, match=REFUSED):
        read_below([root], f"{root}/sub/b.png", 100)


def test_a_file_is_cut_off_at_the_limit(root: Path) -> None:
    assert read_below([root], f"{root}/a.png", 6) == b"inside"
    with pytest.raises(MediaError, match="larger than 5 bytes"):
        read_below([root], f"{root}/a.png", 5)
