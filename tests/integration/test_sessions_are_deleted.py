"""Sessions are listed and counted; a deleted one is gone with its process and its last turn."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from scripted_model import script, tokens
from tests.conftest import NewStack
from tests.support.asking import PATH, check_envelope
from tests.support.talking import Talk, names_with
from tests.support.waiting import wait_for


def test_a_deleted_session_is_gone_with_its_process(new_stack: NewStack) -> None:
    stack = new_stack(slots=2, max_live=8)
    talk = Talk(stack)
    conversation = talk.begin()
    session = talk.ask("one", conversation_id=conversation)["backline"]["session_id"]
    assert stack.cli_processes()
    shown = talk.get(f"/v1/sessions/{session}")
    assert (shown["is_live"], shown["conversation_id"], shown["turns"]) == (True, conversation, 1)
    assert [item["role"] for item in shown["messages"]] == ["user", "assistant"]
    assert talk.http.delete(f"/v1/sessions/{session}").json()["deleted"] is True
    wait_for(lambda: not stack.cli_processes(), 10, "the process has ended")
    (mark,) = names_with(stack, session)
    with stack.redis_client() as client:
        assert client.hgetall(mark.decode()) == {b"gone": b"1"}
    for path in (f"/v1/sessions/{session}", f"/v1/conversations/{conversation}"):
        assert talk.http.get(path).status_code == 404
    assert talk.get("/v1/sessions")["data"] == talk.get("/v1/conversations")["data"] == []


def test_a_turn_under_way_in_a_deleted_session_is_not_stored(new_stack: NewStack) -> None:
    stack = new_stack(slots=2, max_live=8)
    talk = Talk(stack)
    session = talk.ask("one")["backline"]["session_id"]
    prompt = {"role": "user", "content": f"{talk.marker} {script(tokens(30, pace_ms=50))}"}
    body = {"model": "agent", "messages": [prompt], "claude_options": {"session_id": session}}
    with ThreadPoolExecutor() as threads:
        slow = threads.submit(talk.http.post, PATH, json=body)
        wait_for(lambda: len(stack.model.calls(talk.marker)) == 2, 20, "the turn is under way")
        assert Talk(stack).http.delete(f"/v1/sessions/{session}").status_code == 200
        assert slow.result(30).status_code == 200
    assert len(names_with(stack, session)) == 1  # the mark
    wait_for(lambda: not stack.cli_processes(), 10, "the process has ended")
    assert talk.http.get(f"/v1/sessions/{session}").status_code == 404


def test_lists_and_sums(new_stack: NewStack) -> None:
    stack = new_stack(slots=2, max_live=8)
    talk = Talk(stack)
    made = [talk.begin() for _ in range(3)]
    first = talk.ask("one", conversation_id=made[0])["backline"]["session_id"]
    second = talk.ask("two", model="other")["backline"]["session_id"]
    page = talk.get("/v1/conversations?limit=2")
    assert ([c["id"] for c in page["data"]], page["has_more"]) == ([made[0], made[2]], True)
    rest = talk.get(f"/v1/conversations?limit=2&after={page['last_id']}")
    assert ([c["id"] for c in rest["data"]], rest["has_more"]) == ([made[1]], False)
    assert [s["id"] for s in talk.get("/v1/sessions")["data"]] == [second, first]
    assert [s["id"] for s in talk.get("/v1/sessions?agent=agent")["data"]] == [first]
    for wrong, param in (("limit=0", "limit"), ("limit=101", "limit"), ("order=up", "order")):
        check_envelope(talk.http.get(f"/v1/sessions?{wrong}"), 400, "invalid_value", param=param)
    check_envelope(talk.http.get("/v1/sessions?after=x"), 400, "invalid_value", param="after")

    def live_count() -> bool:
        return bool(talk.get("/v1/sessions/stats")["live"] == 2)

    wait_for(live_count, 10, "the worker has announced its live sessions")
    stats = talk.get("/v1/sessions/stats")
    assert (stats["stored"], stats["conversations"], stats["turns"]) == (2, 3, 2)
    assert {agent: sums["sessions"] for agent, sums in stats["agents"].items()} == {"agent": 1, "other": 1}
