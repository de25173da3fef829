"""The credential proxy of one worker: it lives and dies with it, on a loopback port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping

import httpx
import msgspec
import structlog

from shared.settings import Settings
from worker.claude.launch import Launch
from worker.gate.door import DOOR, Door
from worker.gate.inward import Inward
from worker.gate.outward import Outward
from worker.gate.passes import Pass, Passes
from worker.gate.proxy import Proxy
from worker.gate.upstream import Upstream, outward_proxy

_BACKLOG = 128

_log = structlog.get_logger(__name__)


class Gate:
    """Stands between the CLIs of a worker and the model's service. `run` must be running for it to answer.

    With a door (`has_door`) it can be reached without a network too. Raises `OSError` when it cannot listen.
    """

    def __init__(
        self, upstream: Upstream, settings: Settings, environ: Mapping[str, str], *, has_door: bool = False
    ) -> None:
        self._upstream = upstream
        self._models = settings.allowed_models
        self._passes = Passes()
        self._environ = environ
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
        self._door = Door(settings.data_dir) if has_door else None
        self._url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    async def run(self) -> None:
        """Serve until cancelled."""
        outward = self._outward()
        proxy = Proxy(self._upstream.headers, self._passes, outward, self._models)
        connections: set[Inward] = set()
        loop = asyncio.get_running_loop()

        def arrive() -> Inward:
            return Inward(proxy, connections)

        servers = [await loop.create_server(arrive, sock=self._socket, backlog=_BACKLOG)]
        if self._door is not None:
            servers.append(await loop.create_unix_server(arrive, sock=self._door.socket, backlog=_BACKLOG))
        try:
            await loop.create_future()
        finally:
            for server in servers:
                server.close()
            for connection in list(connections):
                connection.close()
            outward.close()
            self.close()

    def _outward(self) -> Outward:
        """The way out that the CLI would have taken: its certificates, and the proxy of its environment."""
        context = httpx.create_ssl_context(trust_env=False)
        context.set_alpn_protocols(["http/1.1"])
        for name in ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"):
            if extra := self._environ.get(name):
                context.load_verify_locations(extra)
        url = self._upstream.url
        return Outward(url, context, outward_proxy(url, self._environ))

    def close(self) -> None:
        """Listen no more; `run` does this at its end."""
        self._socket.close()
        if self._door is not None:
            self._door.close()

    def issue(self) -> Pass:
        """A pass for one process; `revoke` ends it."""
        return self._passes.issue()

    def revoke(self, issued: Pass) -> None:
        """End a pass, and tell the log what was spent with it. Safe to call twice."""
        self._passes.revoke(issued)
        if issued.calls:
            spent = {"input_tokens": issued.input_tokens, "output_tokens": issued.output_tokens}
            _log.info("process_metered", calls=issued.calls, **spent)
            issued.calls = 0

    def open_for(self, launch: Launch, issued: Pass, *, by_door: bool = False) -> Launch:
        """The same launch, whose way to the model is this proxy: on loopback, or `by_door`."""
        env = {**launch.env, "ANTHROPIC_BASE_URL": self._url}
        env |= dict.fromkeys(self._upstream.variables, issued.token)
        for name in ("NO_PROXY", "no_proxy"):  # the proxy to the outside knows no loopback of ours
            env[name] = ",".join(filter(None, (env.get(name, ""), "127.0.0.1")))
        if self._upstream.is_anthropics:  # behind a loopback address the CLI (2.1) would leave features out
            env["_CLAUDE_CODE_ASSUME_FIRST_PARTY_BASE_URL"] = "1"
        if self._door is None or not by_door:
            return msgspec.structs.replace(launch, env=env)
        env["ANTHROPIC_UNIX_SOCKET"] = str(DOOR)
        return msgspec.structs.replace(launch, env=env, door=self._door.path)
