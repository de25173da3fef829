"""A CLI in namespaces of its own, by bubblewrap: it sees a system, one agent's files, and itself."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from shared.agents import Agent
from shared.settings import AgentFiles, Settings
from worker.claude.launch import Launch
from worker.copying import Bounds, CopyRefusedError, copy_tree
from worker.egress import listening
from worker.gate.door import DOOR
from worker.sandbox.placeholders import Placeholders
from worker.sandbox.places import Mount, Place, in_order, mounts_of

_PROBE_S = 10.0
_WRAPPERS = 2
"""Processes of bubblewrap's (0.8): one outside, which dies with the worker, and the first one inside."""
_UID_FOR_ROOT = 1000
_USR = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_ETC = (
    *("alternatives", "bash.bashrc", "ca-certificates", "ca-certificates.conf", "crypto-policies"),
    *("fonts", "gai.conf", "gitconfig", "host.conf", "hosts", "inputrc", "ld.so.cache", "ld.so.conf"),
    *("ld.so.conf.d", "locale.alias", "localtime", "magic", "magic.mime", "mime.types", "networks"),
    *("nsswitch.conf", "os-release", "pki", "profile", "profile.d", "protocols", "resolv.conf"),
    *("services", "ssl", "terminfo", "timezone", "xattr.conf"),
)
"""What programs need to find names, certificates and libraries; nothing with a secret in it."""
_NAMESPACES = ("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try")
_LIFE = ("--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", "agent")


class SandboxError(Exception):
    """There is no sandbox here, or not for this launch; the message says why."""


class Bubblewrap:
    """Wraps launches. `program` is bwrap; `has_own_user` whether it may make a user namespace.

    `agents` are those of this worker: the files of one are not there for another.
    """

    def __init__(
        self, program: str, settings: Settings, agents: Sequence[Agent], *, has_own_user: bool
    ) -> None:
        self._program = program
        self._settings = settings
        self._has_own_user = has_own_user
        self._data_dir = Path(os.path.realpath(settings.data_dir))
        self._hidden = (self._data_dir, *(agent.directory for agent in agents))
        self._placeholders = Placeholders(self._data_dir / "sandbox/placeholders")

    def enclose(
        self, launch: Launch, login: Path | None, *, is_project: bool, settings: Settings | None = None
    ) -> Launch:
        """The same launch inside; raises `SandboxError` or `OSError`.

        `settings` are those that hold for this agent, if not the worker's.

        `login` is a file of the operator's that the CLI reads and renews. Blocks: with `agent_files` scratch
        it copies.
        """
        settings = settings or self._settings
        cli = Path(os.path.realpath(launch.argv[0]))
        mounts = [*(Mount(path, path) for path in self._settings.sandbox_paths), Mount(cli, cli)]
        for place in self._places(launch, settings.agent_files, is_project=is_project):
            mounts += mounts_of(place, self._placeholders)
        if login is not None:
            mounts.append(Mount(login, Path(os.path.realpath(login)), is_writable=True))
        mounts = [*self._hidden_in(mounts), *mounts, Mount(launch.scratch, launch.scratch, is_writable=True)]
        if launch.door is not None:
            mounts.append(Mount(DOOR, launch.door))
        inside = (str(cli), *launch.argv[1:])
        is_apart = settings.agent_network != "host"
        network = ("--unshare-net",) if is_apart and launch.exit is None else ()
        frame = (*self._frame(), *network)
        argv = (self._program, *frame, *_words(in_order(mounts)), *_closing(launch.cwd), *inside)
        if launch.exit is None:
            return msgspec.structs.replace(launch, argv=argv, wrappers=_WRAPPERS)
        argv = (*self._apart(launch.exit), *argv)
        return msgspec.structs.replace(launch, argv=argv, wrappers=_WRAPPERS + 1)

    def reading(self, argv: Sequence[str], directory: Path) -> list[str]:
        """The command `argv` inside, with no network and nothing of the host's but `directory`, to read."""
        mounts = [Mount(directory, directory)]
        words = [*self._frame(), "--unshare-net", *_words(mounts), *_closing(directory)]
        return [self._program, *words, *argv]

    def close(self) -> None:
        """Leave the agents' directories as they were found; every process must have ended."""
        self._placeholders.remove()

    def probe(self, *, is_listed: bool = False) -> str:
        """Start nothing in it; gives why that failed, or an empty text. `is_listed`: with a way out."""
        argv = [self._program, *self._frame(), *_closing(Path("/")), "true"]
        ours, theirs = socket.socketpair()
        with ours, theirs:
            if is_listed:
                argv = [*self._apart(theirs.fileno()), *argv]
            try:
                done = subprocess.run(
                    argv,
                    capture_output=True,
                    text=True,
                    timeout=_PROBE_S,
                    check=False,
                    env={},
                    pass_fds=(theirs.fileno(),),
                )
            except (OSError, subprocess.SubprocessError) as error:
                return str(error)
        return "" if done.returncode == 0 else done.stderr.strip()[-300:] or f"exit code {done.returncode}"

    def _hidden_in(self, mounts: Sequence[Mount]) -> list[Mount]:
        """Nothing, in the place of what is another's and would be seen in one of `mounts`."""
        shown = {Path("/usr"), *(mount.target for mount in mounts)}
        return [Mount(path) for path in self._hidden if path.is_dir() and not shown.isdisjoint(path.parents)]

    def _places(self, launch: Launch, agent_files: AgentFiles, *, is_project: bool) -> list[Place]:
        wish = "read-write" if is_project else agent_files
        others = [
            Place(Path(os.path.realpath(each)), "read-write" if wish == "read-write" else "read-only")
            for each in launch.options.add_dirs
        ]
        if launch.revision and wish == "read-write":  # later runs of the revision are to find it as it is
            wish = "scratch"
        if launch.cwd == Path("/"):
            raise SandboxError("The whole of the host is no directory for an agent in a sandbox.")
        if wish != "scratch":
            return [*others, Place(launch.cwd, wish)]
        files = launch.scratch / "files"
        try:
            bounds = Bounds(most_bytes=self._settings.max_project_bytes)
            copy_tree(launch.cwd, files, bounds, leave_out=self._data_dir)
        except CopyRefusedError as error:
            raise SandboxError(str(error)) from error
        return [*others, Place(launch.cwd, source=files)]

    def _apart(self, descriptor: int) -> tuple[str, ...]:
        """A network around the sandbox with one door, which is handed to the worker: nothing else differs.

        Two bubblewraps, since what listens in there must be made before the walls are closed.
        """
        namespaces = ("--unshare-net", *(("--unshare-user",) if self._has_own_user else ("--cap-add", "ALL")))
        around = (self._program, *namespaces, "--die-with-parent", "--dev-bind", "/", "/", "--")
        return (*around, sys.executable, "-I", "-S", listening.__file__, str(descriptor))

    def _frame(self) -> list[str]:
        """Namespaces, and a system to read."""
        words = [*_NAMESPACES, *_LIFE]
        uid, gid = _ids()
        if self._has_own_user:
            words += ["--unshare-user", "--uid", str(uid), "--gid", str(gid)]
        words += ["--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]  # noqa: S108
        for name in _USR:
            place = Path("/") / name
            if place.is_symlink():
                words += ["--symlink", str(place.readlink()), str(place)]
            elif place.is_dir():
                words += ["--ro-bind", str(place), str(place)]
        for name in _ETC:
            words += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
        accounts = self._data_dir / "sandbox"
        return [*words, *_account(accounts, "passwd"), *_account(accounts, "group")]

    def prepare(self) -> None:
        """Write what every launch uses, and remove what killed workers left; raises `OSError`."""
        self._placeholders.sweep()
        uid, gid = _ids()
        place = self._data_dir / "sandbox"
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        (place / "passwd").write_text(f"agent:x:{uid}:{gid}:agent:/tmp:/bin/sh\n")
        (place / "group").write_text(f"agent:x:{gid}:\n")


def find_sandbox(
    settings: Settings, agents: Sequence[Agent], environ: Mapping[str, str]
) -> tuple[Bubblewrap | None, str]:
    """The sandbox that works here, or `None` and why not; raises `SandboxError` when there must be one."""
    if settings.sandbox == "none":
        return None, "The setting sandbox is none."
    box, why = _probe(settings, agents, environ)
    if box is None and settings.sandbox == "bubblewrap":
        raise SandboxError(f"The setting sandbox is bubblewrap, and it does not work here: {why}")
    return box, why


def _probe(
    settings: Settings, agents: Sequence[Agent], environ: Mapping[str, str]
) -> tuple[Bubblewrap | None, str]:
    if sys.platform != "linux":
        return None, "Bubblewrap is for Linux."
    program = shutil.which("bwrap", path=environ.get("PATH"))
    if program is None:
        return None, "There is no bwrap on the PATH (package bubblewrap)."
    why = ""
    for has_own_user in (True, False):
        box = Bubblewrap(program, settings, agents, has_own_user=has_own_user)
        try:
            box.prepare()
        except OSError as error:
            return None, str(error)
        if not (said := box.probe()):
            return box, ""
        why = why or said
    return None, why


def _ids() -> tuple[int, int]:
    """Who the agent is inside: never root, which the CLI and many tools treat as somebody else."""
    return (os.getuid(), os.getgid()) if os.getuid() else (_UID_FOR_ROOT, _UID_FOR_ROOT)


def _account(accounts: Path, name: str) -> list[str]:
    return ["--ro-bind", str(accounts / name), f"/etc/{name}"]


def _words(mounts: Sequence[Mount]) -> list[str]:
    words: list[str] = []
    for mount in mounts:
        if mount.source is None:
            words += ["--tmpfs", str(mount.target)]
        else:
            words += ["--bind" if mount.is_writable else "--ro-bind", str(mount.source), str(mount.target)]
    return words


def _closing(cwd: Path) -> list[str]:
    """At last: the root, which held the mount points, is closed too."""
    return ["--remount-ro", "/", "--chdir", str(cwd), "--"]
