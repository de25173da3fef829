"""One stack for the suite behind a proxy that records; what passed is validated after every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.compat import contract
from tests.compat.apart import Apart, find_apart
from tests.compat.node import Node, find_node
from tests.compat.proxy import Proxy, running_proxy
from tests.support.model import Model
from tests.support.stack import Stack, running_stack
from tests.support.waiting import wait_for


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say of each test which cells of the table it fills; reports carry it, from other processes too."""
    for item in items:
        client = item.get_closest_marker("client")
        if client:
            cells = [(client.args[0], feature.args[0]) for feature in item.iter_markers("feature")]
            item.user_properties += [("compat", cell) for cell in cells]


@pytest.fixture(scope="session")
def served(model: Model) -> Iterator[Stack]:
    """A stack that keeps processes, as one in use does.

    Without keys whatever happens: made-up requests make some, and would shut out the tests behind them.
    """
    with running_stack(model, slots=8, warm=1, max_live=8, auth="off") as stack:
        yield stack


@pytest.fixture(scope="session")
def recording(served: Stack) -> Iterator[Proxy]:
    with running_proxy(served.url) as proxy:
        yield proxy


@pytest.fixture
def proxy(recording: Proxy) -> Iterator[Proxy]:
    """The way to the API; fails the test whose answers are not as documented."""
    recording.forget()
    yield recording
    for exchange in recording.exchanges:
        contract.check(exchange)


@pytest.fixture
def url(proxy: Proxy) -> str:
    """Where clients of OpenAI's API are pointed."""
    return f"{proxy.url}/v1"


@pytest.fixture(scope="session")
def unserved(served: Stack) -> str:
    """The name of an agent that is known and has no worker."""
    name = "leaver"
    served.make_agent(name)
    worker = served.start_worker((name,))
    served.wait_ready(2)
    worker.ask_to_end()
    assert worker.exit_code() == 0
    served.workers.remove(worker)
    served.wait_ready(1)
    return name


@pytest.fixture
def idle(served: Stack, model: Model, marker: str) -> Iterator[None]:
    """After the test: the model call of its cancelled run was broken off, and no turn is left."""
    yield
    wait_for(lambda: not served.waiting("agent"), 5, "no run is queued or under way")
    wait_for(
        lambda: [sent.ended for sent in model.calls(marker)] == ["disconnected"], 5, "the model call ends"
    )


@pytest.fixture(scope="session")
def node(request: pytest.FixtureRequest) -> Node:
    """Runs scenarios of tests/compat/js, installed once from its lock file."""
    return find_node()


@pytest.fixture(scope="session")
def llama_index() -> Apart:
    """Runs scenarios of tests/compat/environments/openai_like.py."""
    return find_apart("openai_like")
