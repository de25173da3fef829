"""Several hosts on one machine: each has a network and a name of its own, on a bridge of theirs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import psutil

from tests.support import relay
from tests.support.processes import Server

_NETWORK = "10.86.0"
_END_S = 15.0
_APART = ("unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--mount-proc", "--kill-child")
# The first process of the site: its end, or that of the tests, closes the pipe and takes all others along.
_LAY = f"""
set -e
mount -t tmpfs none /run
ip link set lo up
ip link add street type bridge
ip address add {_NETWORK}.1/24 dev street
ip link set street up
for number in $(seq $#); do
  eval "name=\\${{$number}}"
  ip netns add "$name"
  ip link add "$name" type veth peer name eth0 netns "$name"
  ip link set "$name" master street up
  ip -n "$name" link set lo up
  ip -n "$name" address add "{_NETWORK}.$((number + 1))/24" dev eth0
  ip -n "$name" link set eth0 up
  ip netns exec "$name" unshare --uts true
done
echo laid
exec 3<&0
cat <&3 &
wait
"""
_NAMED = ("unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"')


@cache
def missing_site() -> str:
    """Why there can be no hosts here; empty when there can."""
    try:
        with _laid(("host-a",)):
            return ""
    except (OSError, AssertionError) as error:
        return str(error)


class Site:
    """Hosts, and the street between them, where clients may be; made by `running_site`."""

    def __init__(self, first: int, names: Sequence[str], root: Path) -> None:
        self.servers: list[Server] = []
        enter = ("--user", "--mount", "--net", "--pid", "--preserve-credentials")
        self._enter = ("nsenter", "--target", str(first), *enter, "--")
        self._root = root
        self._addresses = {name: f"{_NETWORK}.{number}" for number, name in enumerate(names, 2)}

    def address(self, host: str) -> str:
        """Where the others reach a host."""
        return self._addresses[host]

    def start(self, host: str, name: str, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """Start a process on a host. It ends with the site; what it says is in `HOST-NAME.log`."""
        at = ("ip", "netns", "exec", host, *_NAMED, host)
        log = self._root / f"{host}-{name}.log"
        self.servers.append(Server([*self._enter, *at, *argv], env=env, cwd=self._root, log=log))

    def way(self, host: str, port: int) -> str:
        """An address of ours, HOST:PORT, that leads to a port of a host, as if from the street."""
        argv = [*self._enter, sys.executable, relay.__file__, self.address(host), str(port)]
        with socket.create_server(("127.0.0.1", 0)) as ours:
            log, stdin = self._root / f"street-{port}.log", ours.fileno()
            self.servers.append(Server(argv, env=os.environ, cwd=self._root, log=log, stdin=stdin))
            return f"127.0.0.1:{ours.getsockname()[1]}"

    def unplug(self, host: str) -> None:
        """Take a host off the network: what it sends is lost, and nobody is told."""
        self._link(host, "down")

    def plug(self, host: str) -> None:
        """Have it back."""
        self._link(host, "up")

    def _link(self, host: str, state: str) -> None:
        argv = [*self._enter, "ip", "link", "set", host, state]
        subprocess.run(argv, check=True, timeout=_END_S, capture_output=True)


@contextmanager
def running_site(names: Sequence[str], root: Path) -> Iterator[Site]:
    """Hosts of these names (12 letters at most); afterwards they are gone with all that runs on them."""
    servers: list[Server] = []
    try:
        with _laid(names) as first:
            site = Site(first, names, root)
            servers = site.servers
            yield site
    finally:
        for server in servers:
            server.exit_code()


@contextmanager
def _laid(names: Sequence[str]) -> Iterator[int]:
    """Give the pid of the first process; raises `OSError` or `AssertionError` where that is not allowed."""
    argv = [*_APART, "sh", "-c", _LAY, "sh", *names]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            if process.stdout.readline() != "laid\n":
                raise AssertionError(f"namespaces cannot be made: {process.stderr.read().strip()}")
            (first,) = psutil.Process(process.pid).children()
            yield first.pid
        finally:
            process.stdin.close()
            try:
                process.wait(_END_S)
            finally:
                process.kill()
