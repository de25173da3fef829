"""One signed request to an endpoint (Standard Webhooks, https://www.standardwebhooks.com, symmetric `v1`)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import Sequence

import httpx

from api.outward import Outward, OutwardError, parsed_url
from shared.settings import Settings
from shared.webhooks.records import SECRET_PREFIX, Attempt

MOST_AT_ONCE = 256
"""Deliveries under way in one process."""
_CHECK_S = 5.0


class Sender:
    """Sends to tenants' endpoints, and to the operator's, which may be a private one."""

    def __init__(self, settings: Settings) -> None:
        self._with_private = settings.webhook_private
        self._timeout_s = settings.webhook_timeout_s
        self._outward = Outward(with_private=settings.webhook_private, most_at_once=MOST_AT_ONCE)
        self._to_operator = Outward(with_private=True, most_at_once=MOST_AT_ONCE)

    async def check(self, text: str) -> None:
        """Look where a tenant's URL leads; raises `OutwardError`."""
        url = self._parsed(text)
        try:
            async with asyncio.timeout(_CHECK_S):
                await self._outward.addresses(url)
        except TimeoutError as error:
            raise OutwardError("Its URL's host was not found in time.") from error

    async def send(
        self,
        text: str,
        signing: Sequence[str],
        event_id: str,
        content: bytes,
        now_s: int,
        *,
        is_operators: bool = False,
    ) -> Attempt:
        """Post `content`, signed with each secret of `signing` at `now_s`; says how it went, never raises.

        Redirects are not followed, and nothing of the answer is read beyond its head.
        """
        headers = {
            "content-type": "application/json",
            "webhook-id": event_id,
            "webhook-timestamp": str(now_s),
            "webhook-signature": " ".join(signature(secret, event_id, now_s, content) for secret in signing),
        }
        began = time.monotonic()
        status, error = None, ""
        try:
            async with asyncio.timeout(self._timeout_s):
                status = await self._post(text, headers, content, is_operators=is_operators)
        except OutwardError as refused:
            error = str(refused)
        except TimeoutError:
            error = f"It did not answer within {self._timeout_s:g} seconds."
        took_s = round(time.monotonic() - began, 3)
        return Attempt(at=now_s, took_s=took_s, status_code=status, error=error)

    async def aclose(self) -> None:
        """Close what is open."""
        await self._outward.aclose()
        await self._to_operator.aclose()

    async def _post(self, text: str, headers: dict[str, str], content: bytes, *, is_operators: bool) -> int:
        url = parsed_url(text) if is_operators else self._parsed(text)
        outward = self._to_operator if is_operators else self._outward
        response = await outward.send(url, method="POST", headers=headers, content=content)
        await response.aclose()
        return response.status_code

    def _parsed(self, text: str) -> httpx.URL:
        url = parsed_url(text)
        if url.scheme != "https" and not self._with_private:
            raise OutwardError("Its URL must be https.")
        return url


def signature(secret: str, event_id: str, now_s: int, content: bytes) -> str:
    """A `v1` signature: HMAC-SHA256 of id, time and content with dots between, in base64."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = b"%s.%d.%s" % (event_id.encode(), now_s, content)
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
