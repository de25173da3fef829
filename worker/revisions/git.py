"""What a git repository holds, read without running anything that it names.

Whoever may write to a repository chooses its configuration, and an agent may. So only plumbing is used that
knows no filter, hook or pager; nothing is fetched; and where there is a sandbox, git sees `.git` alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

import msgspec

from shared.agents import is_revision
from worker.copying import Bounds

_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    # A partial clone's missing objects would be fetched, by a program that its configuration may name.
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    "LC_ALL": "C",
}
_FIXED = ("-c", f"core.hooksPath={os.devnull}", "-c", "core.fsmonitor=false")
_QUERY_S = 10.0
_CHUNK = 1024 * 1024
_LONGEST_LINK = 4095
_LONGEST_LINE = 64 * 1024

Wrap = Callable[[Sequence[str], Path], Sequence[str]]
"""From a command and the directory that it may read to the command that runs it so."""


class RevisionError(Exception):
    """The revision cannot be run; the message says why, in words for the client."""


Kind = Literal["file", "program", "link"]
_KINDS: dict[bytes, Kind] = {b"120000": "link", b"100755": "program"}


class Entry(msgspec.Struct, frozen=True):
    """A file of a revision: its path below the agent's directory, and its object."""

    path: Path
    kind: Kind
    object: str


class Commit(msgspec.Struct, frozen=True):
    """A commit, and the tree of the agent's directory in it (both full object names)."""

    commit: str
    tree: str


class Repository:
    """The git repository that `directory` is the root of, or is in; raises `RevisionError` for none.

    Every method blocks.
    """

    def __init__(self, directory: Path, wrap: Wrap | None = None) -> None:
        root = next(
            (each for each in (directory, *directory.parents) if os.path.lexists(each / ".git")), None
        )
        if shutil.which("git") is None:
            raise RevisionError("There is no git on the worker, so there are no revisions.")
        if root is None:
            raise RevisionError("The agent's directory is in no git repository, so there are no revisions.")
        self._git_dir = root / ".git"
        self._below = directory.relative_to(root)
        self._wrap = wrap
        if self._git_dir.is_symlink() or not self._git_dir.is_dir():
            raise RevisionError("The agent's directory is in a git work tree of another place.")
        if self._git_dir.stat().st_uid not in {os.geteuid(), directory.stat().st_uid, 0}:
            raise RevisionError("The git repository that the agent's directory is in is somebody else's.")

    def commit(self, revision: str, *, tags_only: bool) -> Commit:
        """What `revision` names; raises `RevisionError` for nothing, and what is not a tag if it must be."""
        if not is_revision(revision):
            raise RevisionError("This is no name of a revision.")
        name = f"refs/tags/{revision}" if tags_only else revision
        commit = self._name(f"{name}^{{commit}}")
        if commit is None:
            what = "tag" if tags_only else "revision"
            raise RevisionError(f"The agent has no {what} {revision!r}.")
        below = "" if self._below == Path() else self._below.as_posix()
        tree = self._name(f"{commit}:{below}")
        if tree is None:
            raise RevisionError(f"The agent is not in its repository at {revision!r}.")
        return Commit(commit, tree)

    def entries(self, tree: str, bounds: Bounds) -> list[Entry]:
        """The files of a tree, less submodules and what no path may be; raises `RevisionError` beyond bounds.

        Sizes count before anything is read.
        """
        found: list[Entry] = []
        left = bounds.most_bytes
        with self._running(["ls-tree", "-r", "-z", "-l", "--full-tree", tree], bounds.most_s) as git:
            for count, line in enumerate(_until_nul(_out(git))):
                head, _, path = line.partition(b"\t")
                mode, kind, name, size = head.split()
                if kind == b"blob" and not size.isdigit():  # of a partial clone, say
                    raise RevisionError("The agent's files of that revision are not all there.")
                left -= int(size) if size.isdigit() else 0
                if count >= bounds.most_files or left < 0:
                    raise RevisionError("The agent's directory has too many or too large files there.")
                what = _KINDS.get(mode, "file")
                if kind != b"blob" or (place := _path(path)) is None:
                    continue
                if what != "link" or int(size) <= _LONGEST_LINK:
                    found.append(Entry(place, what, name.decode()))
            if git.wait() != 0:
                raise RevisionError("The agent's files of that revision cannot be read.")
        return found

    def contents(self, entries: Sequence[Entry], bounds: Bounds) -> Generator[tuple[Entry, Iterator[bytes]]]:
        """Each file and its bytes, in pieces to be taken before the next file; raises `RevisionError`."""
        with self._running(["cat-file", "--batch"], bounds.most_s) as git:
            if git.stdin is None:
                raise RevisionError("git has no input.")
            for entry in entries:
                git.stdin.write(f"{entry.object}\n".encode())
                git.stdin.flush()
                words = _out(git).readline(_LONGEST_LINE).split()
                if len(words) != 3 or words[1] != b"blob":
                    raise RevisionError("The agent's files of that revision are not all there.")
                yield entry, _pieces(_out(git), int(words[2]))

    def _name(self, expression: str) -> str | None:
        """The full name of the object that `expression` stands for."""
        argv = self._argv(["rev-parse", "--verify", "--quiet", "--end-of-options", expression])
        try:
            done = subprocess.run(
                argv,
                capture_output=True,
                stdin=subprocess.DEVNULL,
                text=True,
                timeout=_QUERY_S,
                check=False,
                env=_environment(),
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise RevisionError("git does not answer on the worker.") from error
        return done.stdout.strip() if done.returncode == 0 else None

    @contextmanager
    def _running(self, words: Sequence[str], most_s: float) -> Iterator[subprocess.Popen[bytes]]:
        """git, ended within `most_s` seconds and before this is left."""
        try:
            git = subprocess.Popen(
                self._argv(words),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=_environment(),
            )
        except OSError as error:
            raise RevisionError("git does not start on the worker.") from error
        watch = threading.Timer(most_s, git.kill)
        watch.start()
        ends_at = time.monotonic() + most_s
        try:
            yield git
        except (OSError, RevisionError) as error:
            if time.monotonic() >= ends_at:
                raise RevisionError(f"To lay out the revision took longer than {most_s:g} s.") from error
            raise
        finally:
            watch.cancel()
            git.kill()
            git.communicate()

    def _argv(self, words: Sequence[str]) -> Sequence[str]:
        argv = ["git", f"--git-dir={self._git_dir}", *_FIXED, *words]
        return argv if self._wrap is None else self._wrap(argv, self._git_dir)


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), **_ENVIRONMENT}


def _out(git: subprocess.Popen[bytes]) -> IO[bytes]:
    if git.stdout is None:
        raise RevisionError("git has no output.")
    return git.stdout


def _until_nul(stream: IO[bytes]) -> Iterator[bytes]:
    """What stands before each NUL."""
    rest = b""
    while chunk := stream.read(_CHUNK):
        *whole, rest = (rest + chunk).split(b"\0")
        if len(rest) > _LONGEST_LINE:
            raise RevisionError("The agent's directory has paths there that are too long.")
        yield from whole


def _pieces(stream: IO[bytes], size: int) -> Iterator[bytes]:
    """An object's bytes, and the line end after it taken off."""
    while size > 0:
        piece = stream.read(min(size, _CHUNK))
        if not piece:
            raise RevisionError("The agent's files of that revision are not all there.")
        size -= len(piece)
        yield piece
    stream.read(1)


def _path(name: bytes) -> Path | None:
    """Where a file goes below the directory; `None` for what could lead out of it, or be a repository."""
    path = Path(os.fsdecode(name))
    parts = name.split(b"/")
    is_plain = all(part and part not in {b".", b".."} and part.lower() != b".git" for part in parts)
    return path if is_plain and not path.is_absolute() else None
