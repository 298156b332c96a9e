"""Trying again: exponential pauses with jitter, a bounded number of attempts, and the server's own wish."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Protocol, TypeVar

from tare.errors import TareError

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Clock(Protocol):
    """Time, as far as this room knows it."""

    def monotonic(self) -> float:
        """Seconds that only grow."""

    def wall(self) -> float:
        """Seconds since the epoch."""

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds``."""


class SystemClock:
    """The machine's time."""

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds``."""
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """``attempts`` without progress before giving up; pauses in seconds grow from ``first_pause`` to ``longest_pause``.

    A server's ``Retry-After`` is honoured up to ``longest_wish`` seconds.
    """

    attempts: int = 5
    first_pause: float = 0.5
    longest_pause: float = 20.0
    longest_wish: float = 120.0

    def pause(self, failures: int, wish: float | None) -> float:
        """Seconds to wait after ``failures`` failures in a row: half of the full pause, and a part of the rest."""
        full: float = min(self.longest_pause, self.first_pause * 2.0 ** (failures - 1))
        jittered = full / 2 + random.random() * full / 2  # noqa: S311 - spreads clients, guards nothing
        return max(jittered, min(wish, self.longest_wish)) if wish is not None else jittered


class Interrupted(Exception):
    """An attempt failed in a way that another may not.

    ``error`` is what to raise when there is none, ``wish`` the server's ``Retry-After`` in seconds. One that is
    ``lasting`` would meet another attempt as well. ``connected`` is false when there was nobody to talk to.
    """

    def __init__(
        self, error: TareError, wish: float | None = None, *, lasting: bool = False, connected: bool = True
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.wish = wish
        self.lasting = lasting
        self.connected = connected


class Attempts:
    """The attempts of one transfer."""

    def __init__(self, policy: RetryPolicy, clock: Clock) -> None:
        self._policy = policy
        self._clock = clock
        self._failures = 0

    def progressed(self) -> None:
        """More of the transfer is done than ever before: what failed until now does not count."""
        self._failures = 0

    async def run(self, operation: Callable[[], Awaitable[T]]) -> T:
        """The first result of ``operation``. Raises what it raises, the error of the last Interrupted among it."""
        while True:
            try:
                return await operation()
            except Interrupted as interrupted:
                self._failures += 1
                if interrupted.lasting or self._failures >= self._policy.attempts:
                    raise interrupted.error from interrupted
                pause = self._policy.pause(self._failures, interrupted.wish)
                logger.info("%s; trying again in %.1f s", interrupted.error.message, pause)
            await self._clock.sleep(pause)


def retry_after(headers: Mapping[str, str], clock: Clock) -> float | None:
    """Seconds that ``Retry-After`` (RFC 9110, 10.2.3) asks for: a number, or a date; None where it says neither."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - clock.wall())
    except (TypeError, ValueError):
        return None
