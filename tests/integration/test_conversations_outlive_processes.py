"""A conversation outlives its process, its worker and a Redis that hangs; what is lost is a clear 404."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import psutil

from scripted_model import script, tokens
from tests.conftest import NewStack
from tests.support.asking import PATH, check_envelope
from tests.support.model import Model
from tests.support.processes import of_configuration
from tests.support.stack import Stack
from tests.support.talking import Talk, names_with
from tests.support.waiting import wait_for


def kill_processes(stack: Stack) -> None:
    """Kill every CLI of the stack, as a host short of memory would."""
    processes = list(of_configuration(stack.data))
    assert processes
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=10)


def test_a_conversation_outlives_its_process(model: Model, new_stack: NewStack) -> None:
    stack = new_stack(slots=2, max_live=8)
    talk = Talk(stack)
    conversation = talk.begin()
    talk.ask("one", before=[{"role": "system", "content": "SYSTEM-WORD"}], conversation_id=conversation)
    for said in ("two", "three"):
        kill_processes(stack)
        talk.ask(said, conversation_id=conversation)
    assert talk.saw() == ["one", "answer to one", "two", "answer to two", "three"]
    assert "SYSTEM-WORD" in model.calls(talk.marker)[-1].system


def test_a_conversation_outlives_its_worker(new_stack: NewStack) -> None:
    stack = new_stack(slots=2, max_live=8, workers=2, was_killed=True)
    talk = Talk(stack)
    conversation = talk.begin()
    talk.ask("one", conversation_id=conversation)
    host = next(worker for worker in stack.workers if psutil.Process(worker.pid).children())
    host.kill()
    talk.ask("two", conversation_id=conversation)
    assert talk.saw() == ["one", "answer to one", "two"]


def test_an_expired_conversation_is_a_404_and_never_an_empty_one(new_stack: NewStack) -> None:
    stack = new_stack(slots=2, max_live=8, session_ttl_s=1.5)
    talk = Talk(stack)
    conversation = talk.begin()
    session = talk.ask("one", conversation_id=conversation)["backline"]["session_id"]
    wait_for(lambda: not names_with(stack, session), 10, "the session has expired")
    answer = talk.send("two", conversation_id=conversation)
    check_envelope(answer, 404, "conversation_not_found", param="conversation_id")
    answer = talk.send("two", claude_options={"session_id": session})
    check_envelope(answer, 404, "session_not_found", param="claude_options.session_id")
    answer = talk.send("two", claude_options={"continue": True})
    check_envelope(answer, 404, "session_not_found", param="claude_options.continue")
    assert len(stack.model.calls(talk.marker)) == 1


def test_a_turn_is_saved_although_redis_hangs_when_it_ends(new_stack: NewStack) -> None:
    stack = new_stack(workers=1, slots=1, max_live=0)
    talk = Talk(stack)
    conversation = talk.begin()
    talk.ask("one", conversation_id=conversation)
    redis = psutil.Process(stack.redis.pid)
    with ThreadPoolExecutor() as threads:
        slow = {"role": "user", "content": f"{talk.marker} two {script(tokens(10, pace_ms=150))}"}
        asked = {"model": "agent", "messages": [slow], "conversation_id": conversation}
        ending = threads.submit(talk.http.post, PATH, json=asked)
        wait_for(lambda: any(c.ended is None for c in stack.model.calls(talk.marker)), 10, "it is under way")
        redis.suspend()
        try:
            wait_for(lambda: all(c.ended for c in stack.model.calls(talk.marker)), 10, "the model is done")
            time.sleep(3)  # the worker tries to save, and fails
        finally:
            redis.resume()
        assert ending.result(40).status_code == 200
    talk.ask("three", conversation_id=conversation)
    assert [words.split()[0] for words in talk.saw()] == ["one", "answer", "two", "t0", "three"]


def test_a_transcript_lost_after_the_look_is_a_404_too(new_stack: NewStack) -> None:
    """The API saw it; the worker no longer does."""
    stack = new_stack(workers=1, slots=1, max_live=0)
    talk = Talk(stack)
    conversation = talk.begin()
    session = talk.ask("one", conversation_id=conversation)["backline"]["session_id"]
    other = Talk(stack)
    with ThreadPoolExecutor() as threads:
        slow = threads.submit(
            other.http.post,
            PATH,
            json={
                "model": "agent",
                "messages": [{"role": "user", "content": f"{script(tokens(40, pace_ms=50))}"}],
            },
        )
        wait_for(lambda: stack.waiting("agent") == 1, 10, "the slot is taken")
        second = threads.submit(talk.send, "two", conversation_id=conversation)
        wait_for(lambda: stack.waiting("agent") == 2, 10, "the turn waits")
        with stack.redis_client() as client:
            client.delete(*[name for name in names_with(stack, session) if b":transcript:" in name])
        check_envelope(second.result(30), 404, "session_not_found")
        assert slow.result(30).status_code == 200
    assert len(stack.model.calls(talk.marker)) == 1


def test_what_cannot_be_stored_goes_on_while_it_is_live_and_then_is_a_404(new_stack: NewStack) -> None:
    stack = new_stack(slots=2, max_live=8, max_transcript_bytes=64)
    talk = Talk(stack)
    conversation = talk.begin()
    talk.ask("one", conversation_id=conversation)
    talk.ask("two", conversation_id=conversation)
    assert talk.saw() == ["one", "answer to one", "two"]
    kill_processes(stack)
    answer = talk.send("three", conversation_id=conversation)
    assert answer.status_code == 404, answer.text
    assert len(stack.model.calls(talk.marker)) == 2
