from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import structlog

from shared.keys import new_secret
from shared.settings import Settings
from shared.telemetry import configure_logs


@pytest.fixture(autouse=True)
def own_configuration() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_failure_is_logged_without_what_its_variables_held(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs(Settings(log_format=log_format), "test")  # type: ignore[arg-type]
    with contextlib.suppress(ZeroDivisionError):
        _fail_with("CANARY" + "-PROMPT")
    said = capsys.readouterr().err
    assert "ZeroDivisionError" in said
    assert "CANARY-PROMPT" not in said


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_what_looks_like_a_key_is_not_logged(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(Settings(log_format=log_format), "test")  # type: ignore[arg-type]
    ours = new_secret()
    secrets = [ours, "sk-ant-api03-CANARYCANARY_1", "CANARY.opaque"]
    log = structlog.get_logger()
    log.info("said", header=f"Authorization: Bearer {secrets[2]}", nested={"list": [secrets[1], ours]})
    log.info(
        "asked", path="GET /v1/models?api_key=" + secrets[2] + "&x=1", url=f"http://host/?api_key={ours}"
    )
    try:
        int(ours)
    except ValueError:
        log.exception("failed")
    said = capsys.readouterr().err
    assert "ValueError" in said
    assert not [secret for secret in secrets if secret in said]


def _fail_with(secret: str) -> None:
    try:
        assert secret
        _ = 1 / 0
    except ZeroDivisionError:
        structlog.get_logger().exception("failed")
        raise
