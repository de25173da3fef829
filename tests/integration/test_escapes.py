"""A model that is the attacker's, with a shell: what it cannot reach, plant or leave behind."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

import openai
import pytest
from openai import AsyncOpenAI

from scripted_model import Script, call, script, text, use_tool
from shared.run_events import ErrorKind, RunCompleted, RunFailed
from shared.runs import LaunchOptions
from tests.support.asking import ask, text_of
from tests.support.forging import asked, run
from tests.support.model import Model
from tests.support.processes import with_argument
from tests.support.sandbox import missing_sandbox
from tests.support.stack import ALLOW_BASH, Stack, running_stack
from tests.support.waiting import wait_for

pytestmark = pytest.mark.skipif(bool(missing_sandbox()), reason=f"no sandbox: {missing_sandbox()}")

WORKERS_SECRET = "canary-of-the-worker"
API_KEY = "sk-ant-canary-of-the-operator"


@pytest.fixture(scope="module")
def boxed(model: Model) -> Iterator[Stack]:
    """One worker with a sandbox; the operator's secrets are all around."""
    with running_stack(model, workers=0, sandbox="bubblewrap", credential_proxy="on") as stack:
        (stack.root / ".ssh").mkdir()  # the worker's HOME
        (stack.root / ".ssh/id").write_text("canary-of-home")
        (stack.root / "agents/other/secret.txt").write_text("canary-of-other")
        (stack.root / "agents/agent/own.txt").write_text("own-file")
        stack.start_worker(environ={"OPERATORS_SECRET": WORKERS_SECRET, "ANTHROPIC_API_KEY": API_KEY})
        stack.wait_ready()
        (stack.data / "private.txt").write_text("canary-of-data")
        yield stack


@pytest.fixture
def sandbox_agent(boxed: Stack) -> Path:
    return boxed.root / "agents/agent"


def shell(*commands: str) -> Script:
    """The model runs `commands`, one after another, whatever each of them says."""
    return script(
        call(use_tool("Bash", {"command": "\n".join(f"{{ {each}\n}} 2>&1" for each in commands)})),
        call(text("done")),
    )


async def shown(stack: Stack, model: Model, marker: str, *commands: str) -> str:
    """What the commands showed the model, to the last of them: the tool's results."""
    async with stack.sdk() as sdk:
        assert text_of(await ask(sdk, marker, shell(*commands, "echo all-were-run"))) == "done"
    said = results(model, marker)
    assert "all-were-run" in said, said
    return said


def results(model: Model, marker: str) -> str:
    blocks = [block for _, turn in model.calls(marker)[-1].turns for block in turn]
    return repr([block["content"] for block in blocks if block["type"] == "tool_result"])


async def test_the_agents_own_files_are_there_and_stay(
    boxed: Stack, model: Model, marker: str, sandbox_agent: Path
) -> None:
    said = await shown(boxed, model, marker, "cat own.txt", f"echo {marker} > notes.txt", "git --version")
    assert "own-file" in said
    assert "git version" in said
    assert (sandbox_agent / "notes.txt").read_text() == f"{marker}\n"


async def test_nothing_of_others_can_be_read(boxed: Stack, model: Model, marker: str) -> None:
    root = shlex.quote(str(boxed.root))
    said = await shown(
        boxed,
        model,
        marker,
        "cat /etc/shadow /etc/gshadow /etc/sudoers",
        f"cat {root}/agents/other/secret.txt {root}/.ssh/id {root}/data/private.txt {root}/redis.sock",
        f"ls -a {root} {root}/agents {root}/data {root}/data/scratch",
        "ls -a /root /home /var /run /sys /work /mnt /media",
        "cat /proc/1/root/etc/shadow /proc/*/root/etc/shadow",
        f"cat /proc/self/cwd/../other/secret.txt {root}/agents/agent/../other/secret.txt",
        f"ln -s {root}/agents/other leak; cat leak/secret.txt; rm leak",
        "grep -rhsoa -D skip 'canary-of-[a-z]*' / --exclude-dir={proc,dev,usr,_bundled}",
    )
    for secret in ("canary-of-other", "canary-of-home", "canary-of-data", "root:$", "root:*", "root:!"):
        assert secret not in said, secret
    assert "daemon:" not in said


async def test_no_secret_is_in_any_environment(boxed: Stack, model: Model, marker: str) -> None:
    said = await shown(
        boxed,
        model,
        marker,
        "env",
        "cat /proc/*/environ | tr '\\0' '\\n'",
        "cat /proc/*/cmdline | tr '\\0' '\\n'",
        "grep -rsoa -D skip 'sk-ant-canary[a-z-]*' $HOME $TMPDIR /tmp /etc /dev/shm .",
    )
    assert "CLAUDE_CONFIG_DIR=" in said
    for secret in (WORKERS_SECRET, API_KEY, "sk-ant-scripted", "REDIS_URL", "BACKLINE_REDIS"):
        assert secret not in said, secret


def set_up_of(agent: Path) -> str:
    """All that an agent's runs start by, as it is on the host."""
    files = [*agent.glob("*.md"), *agent.glob(".mcp.json"), *(agent / ".claude").rglob("*")]
    return "\n".join(f"{place} {place.read_text()}" for place in files if place.is_file())


HOOK = {"hooks": {"UserPromptSubmit": [{"hooks": [{"type": "command", "command": "touch planted-ran"}]}]}}


async def test_what_later_runs_start_by_cannot_be_planted(
    boxed: Stack, model: Model, marker: str, sandbox_agent: Path
) -> None:
    hook = shlex.quote(json.dumps(HOOK))
    server = shlex.quote(json.dumps({"mcpServers": {"x": {"command": "touch", "args": ["planted-ran"]}}}))
    await shown(
        boxed,
        model,
        marker,
        f"echo {hook} > .claude/settings.json",
        f"echo {hook} > .claude/settings.local.json",
        "mkdir -p .claude/skills/x .claude/agents .claude/hooks && touch .claude/agents/x.md",
        f"mv .claude old; rm -rf .claude; mkdir .claude; echo {hook} > .claude/settings.json",
        f"echo {server} > .mcp.json; mv .mcp.json x; rm -f .mcp.json; ln -sf /tmp/x .mcp.json",
        "echo planted-words >> CLAUDE.md; rm CLAUDE.md; echo planted-words > CLAUDE.md",
        "echo planted-words > CLAUDE.local.md",
        f"cd .. && mv agent gone; mkdir -p agent/.claude && echo {hook} > agent/.claude/settings.json",
        "unshare -Urm sh -c 'mount -o remount,rw,bind .claude; umount -l .claude; echo planted > .claude/x'",
        "mount -o remount,rw .claude; umount .claude",
        f"echo {hook} > $CLAUDE_CONFIG_DIR/settings.json; echo {server} > $CLAUDE_CONFIG_DIR/.claude.json",
        'echo planted-words > "$CLAUDE_CONFIG_DIR/CLAUDE.md"; echo planted-words > "$HOME/.bashrc"',
    )
    assert "planted" not in set_up_of(sandbox_agent)
    second = f"second-{marker}"
    assert "done" in await shown(boxed, model, second, "echo done")
    assert not (sandbox_agent / "planted-ran").exists()
    assert "planted-words" not in model.calls(second)[-1].everything


async def test_a_hook_of_the_operators_does_run(boxed: Stack, model: Model, marker: str) -> None:
    """Or the test above would show nothing."""
    settings = boxed.root / "agents/other/.claude/settings.json"
    settings.write_text(json.dumps(ALLOW_BASH | HOOK))
    async with boxed.sdk() as sdk:
        await ask(sdk, marker, shell("echo done"), model="other")
    wait_for((boxed.root / "agents/other/planted-ran").exists, 5, "the operator's hook has run")


async def test_git_cannot_be_made_to_run_programs_for_others(
    boxed: Stack, model: Model, marker: str, sandbox_agent: Path
) -> None:
    git = sandbox_agent / ".git"
    (git / "hooks").mkdir(parents=True)
    (git / "config").write_text("[core]\n")
    await shown(
        boxed,
        model,
        marker,
        "echo x > .git/hooks/pre-commit; git config core.fsmonitor ./x; echo x > .git/config",
        "mv .git/hooks .git/h; mv .git .git2; mkdir -p .git/hooks; echo x > .git/hooks/pre-commit",
        "touch .git/index",
    )
    assert (git / "config").read_text() == "[core]\n"
    assert list((git / "hooks").iterdir()) == []
    assert (git / "index").exists(), "what is not set-up is the agent's"


async def test_nothing_outlives_the_run_or_reaches_the_worker(
    boxed: Stack, model: Model, marker: str
) -> None:
    worker = boxed.workers[0]
    naps = [str(86_000 + number) for number in range(4)]
    said = await shown(
        boxed,
        model,
        marker,
        f"nohup setsid sleep {naps[0]} >/dev/null 2>&1 &",
        f"env -i setsid nohup sleep {naps[1]} >/dev/null 2>&1 < /dev/null &",
        f"(env -i setsid sh -c 'trap : TERM; setsid sleep {naps[2]} & sleep {naps[3]}' &) >/dev/null 2>&1",
        f"kill -9 {worker.pid} && echo reached",
    )
    assert "reached" not in said
    assert worker.runs
    for nap in naps:
        wait_for(lambda nap=nap: not with_argument(nap), 10, f"sleep {nap} has ended")  # type: ignore[misc]


async def test_a_run_that_kills_all_it_can_kills_itself_alone(
    boxed: Stack, model: Model, marker: str
) -> None:
    async with boxed.sdk() as sdk:
        with pytest.raises(openai.APIError):
            await ask(sdk, marker, shell("kill -9 -1"))
    assert boxed.workers[0].runs
    assert "still-here" in await shown(boxed, model, f"next-{marker}", "echo still-here")


async def test_tenants_of_one_agent_see_nothing_of_each_other(
    boxed: Stack, model: Model, marker: str
) -> None:
    one, two = f"one-{marker}", f"two-{marker}"
    secret = f"canary-{uuid4().hex}"
    plant = (
        f"for d in $HOME $CLAUDE_CONFIG_DIR $TMPDIR /tmp /var/tmp /dev/shm; do echo {secret} > $d/seen; done",
        "echo $CLAUDE_CONFIG_DIR; ls -a $TMPDIR",
    )
    first = await run(boxed, asked(one, shell(*plant), tenant="one"))
    assert isinstance(first[-1], RunCompleted)
    look = (
        "cat $HOME/seen $CLAUDE_CONFIG_DIR/seen $TMPDIR/seen /tmp/seen /var/tmp/seen /dev/shm/seen",
        f"grep -rsa -D skip {secret[:12]} $HOME $TMPDIR /tmp {shlex.quote(str(boxed.data))}",
        f"find {shlex.quote(str(boxed.data))} -name '*.jsonl'; echo ended",
    )
    second = await run(boxed, asked(two, shell(*look), tenant="two"))
    assert isinstance(second[-1], RunCompleted)
    assert "ended" in results(model, two)
    assert secret not in model.calls(two)[-1].everything
    stolen = await run(boxed, asked("go on", tenant="two", session=first[-1].session_id, head="x"))
    assert not isinstance(stolen[-1], RunCompleted)


def knocks(stack: Stack) -> list[str]:
    """At what listens on the host: the API, the model, the credential proxy."""
    ports = [stack.port, int(stack.model.url.rpartition(":")[2])]
    return [
        *(f"(exec 3<>/dev/tcp/127.0.0.1/{port}) && echo reached-{port}" for port in ports),
        '(exec 3<>/dev/tcp/127.0.0.1/"${ANTHROPIC_BASE_URL##*:}") && echo reached-the-proxy',
        "cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d ' ' | sed s/^/device-/",
    ]


async def test_an_agent_without_a_network_has_the_model_and_nothing_else(
    boxed: Stack, model: Model, marker: str
) -> None:
    told = await shown(boxed, model, f"host-{marker}", *knocks(boxed))
    assert told.count("reached-") == 3, "with the host's network it must be there to reach"
    # Like `boxed`, and a worker of its own.
    settings: dict[str, Any] = {"sandbox": "bubblewrap", "credential_proxy": "on", "agent_network": "none"}
    with running_stack(model, warm=1, slots=2, **settings) as apart:
        told = await shown(apart, model, marker, *knocks(apart), *knocks(boxed))
        assert "reached-" not in told
        assert {word for word in told.split("\\n") if word.startswith("device-")} == {"device-lo"}


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Two ports of this host's where something answers."""
    (tmp_path / "word.txt").write_text("word-from-a-host\n")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    servers = [
        ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) for _ in range(2)
    ]
    threads = [Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    yield servers[0].server_port, servers[1].server_port
    for server, thread in zip(servers, threads, strict=True):
        server.shutdown()
        server.server_close()
        thread.join()


PYTHON = "/usr/bin/python3 -c"


@pytest.mark.timeout(120)
async def test_an_agent_with_a_list_of_hosts_reaches_those_and_nothing_else(
    boxed: Stack, model: Model, marker: str, inside: tuple[int, int]
) -> None:
    """A host inside stands for one outside: what makes it allowed is the operator's word for it."""
    port, other = inside
    settings: dict[str, Any] = {"sandbox": "bubblewrap", "credential_proxy": "on", "agent_network": "listed"}
    settings |= {
        "agent_hosts": f"localhost:{port},localhost:{boxed.port},*.example.com",
        "agent_private_hosts": f"localhost:{port}",
    }
    curl = "curl -s --max-time 20 --noproxy ''"
    with running_stack(model, workers=0, slots=2, **settings) as apart:
        other_agent = apart.root / "agents/other/.claude"
        (other_agent / "settings.json").write_text(json.dumps(ALLOW_BASH))
        (other_agent / "backline.toml").write_text('agent_hosts = ["a.example.com"]\n')
        apart.start_worker()
        apart.wait_ready()
        told = await shown(
            apart,
            model,
            marker,
            f"echo A $({curl} http://localhost:{port}/word.txt)",
            f"echo B $({curl} --proxytunnel http://localhost:{port}/word.txt)",
            f"echo C $({curl} http://localhost:{other}/word.txt)",
            f"echo D $({curl} http://localhost:{boxed.port}/health)",
            f"echo E $({curl} http://127.0.0.1:{port}/word.txt http://[::1]:{port}/word.txt)",
            f"echo F $({curl} http://169.254.169.254/latest/meta-data/ http://2130706433:{port}/word.txt)",
            f"echo G $({curl} --noproxy '*' http://localhost:{port}/word.txt; echo $?)",
            "echo H $(curl -s https://no-such-name.example.com/; echo $?)",
            f"{PYTHON} \"import urllib.request as u; u.urlopen('http://evil.test/')\" | tail -1",
            f"{PYTHON} \"import socket; socket.create_connection(('1.1.1.1', 443), 5)\" | tail -1",
            f"{PYTHON} \"import socket; socket.getaddrinfo('example.com', 443)\" | tail -1",
            *knocks(apart),
            *knocks(boxed),
        )
        refusals = [
            line for line in apart.workers[0].log.read_text().splitlines() if "egress_refused" in line
        ]
    assert told.count("word-from-a-host") == 2, told
    assert "A word-from-a-host" in told
    assert "B word-from-a-host" in told
    assert f"C Backline: localhost:{other} is refused: it is not among agent_hosts." in told
    assert f"D Backline: localhost:{boxed.port} is refused: it has an address that is not public." in told
    assert f"E Backline: 127.0.0.1:{port} is refused" in told
    assert "F Backline: 169.254.169.254:80 is refused" in told
    assert "G 7" in told, "without the proxy there is nobody"
    assert "H 56" in told, "a name that is allowed and leads nowhere"
    assert "HTTP Error 403" in told
    assert "Network is unreachable" in told
    assert "name resolution" in told
    assert "reached-" not in told
    assert {word for word in told.split("\\n") if word.startswith("device-")} == {"device-lo"}
    assert any("169.254.169.254" in line for line in refusals), "the operator can see it"


SPELLINGS = (
    "@{path}",
    '@"{path}"',
    "@'{path}'",
    "\n@{path}\n",
    "see (@{path})",
    "@{path}#L1-9",
    "@file:{path}",
    "@file://{path}",
    "@./canary.txt",
    '@"./canary.txt"',
    "@canary.txt",
    "@~/canary.txt",
    "\uff20{path}",
    "\ufe6b{path}",
    "@\u200b{path}",
    "@\u202a{path}",
    "\u00a0@{path}\u00a0",
    "@{path}\x00",
    '{{"file": "@{path}"}}',
    "<file>@{path}</file> @{path}:1 @@{path} @%2f{path}",
    "@/proc/self/cwd/canary.txt",
    "@../agent/canary.txt",
)


@pytest.mark.parametrize("form", SPELLINGS)
async def test_a_mention_of_a_file_is_never_its_content(
    boxed: Stack, model: Model, marker: str, sandbox_agent: Path, form: str
) -> None:
    secret = f"canary-{uuid4().hex}"
    for place in (sandbox_agent, boxed.root):
        (place / "canary.txt").write_text(secret)
    words = form.format(path=sandbox_agent / "canary.txt")
    async with boxed.sdk() as sdk:
        answer = await ask_with_history(sdk, words, marker)
    assert answer == "yes"
    assert secret not in model.call(marker).everything


async def ask_with_history(sdk: AsyncOpenAI, words: str, marker: str) -> str:
    said = f"{words} {marker} {script(text('yes'))}"
    answer = await sdk.chat.completions.create(
        model="agent",
        messages=[
            {"role": "system", "content": words},
            {"role": "user", "content": words},
            {"role": "assistant", "content": words},
            {"role": "user", "content": said},
        ],
    )
    return answer.choices[0].message.content or ""


@pytest.mark.parametrize(
    "fields",
    [
        {"options": LaunchOptions(working_dir="/etc")},
        {"options": LaunchOptions(add_dirs=("/root",))},
        {"options": LaunchOptions(permission_mode="bypassPermissions")},
        {"options": LaunchOptions(mcp_config='{"mcpServers": {"x": {"command": "id"}}}')},
        {"model": "--settings=/tmp/x"},
        {"session": "../../x"},
    ],
    ids=repr,
)
async def test_a_forged_run_chooses_nothing(
    boxed: Stack, model: Model, marker: str, fields: dict[str, Any]
) -> None:
    ended = (await run(boxed, asked(marker, script(text("yes")), **fields)))[-1]
    assert isinstance(ended, RunFailed)
    assert ended.error.kind is ErrorKind.NOT_PERMITTED
    assert model.calls(marker) == []
    assert "run_not_permitted" in boxed.workers[0].tail()
