"""The engine's events: kept for a while, given to whoever subscribes."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping

from tare.engine.requests import Event, Filters

HISTORY = 256  # events kept for `events --since`, as many as Docker keeps
BACKLOG = 4096  # events a slow subscriber may be behind before its stream ends


class Events:
    """Publishes events to subscribers without ever waiting for one of them."""

    def __init__(self) -> None:
        self._history: deque[Event] = deque(maxlen=HISTORY)
        self._subscribers: set[asyncio.Queue[Event | None]] = set()

    def publish(self, kind: str, action: str, actor_id: str, attributes: Mapping[str, str] | None = None) -> None:
        """Record an event and pass it on."""
        event = Event(
            type=kind, action=action, actor_id=actor_id, attributes=dict(attributes or {}), time_ns=time.time_ns()
        )
        self._history.append(event)
        for queue in list(self._subscribers):
            if queue.qsize() >= BACKLOG:
                self._subscribers.discard(queue)
                queue.put_nowait(None)
            else:
                queue.put_nowait(event)

    async def subscribe(
        self, since: float | None = None, until: float | None = None, filters: Filters | None = None
    ) -> AsyncIterator[Event]:
        """Events from ``since`` to ``until`` (seconds since the epoch), then new ones as they come.

        With neither only new ones. An ``until`` in the past ends the stream after the history; 0 does so, too, and
        leaves nothing out (as in Docker).
        """
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._subscribers.add(queue)
        try:
            if since is not None or until is not None:
                for event in list(self._history):
                    seconds = event.time_ns / 1e9
                    if (since or 0.0) <= seconds <= (until or math.inf) and _matches(event, filters):
                        yield event
            while True:
                remaining = None if until is None else until - time.time()
                if remaining is not None and remaining <= 0:
                    return
                try:
                    async with asyncio.timeout(remaining):
                        next_event = await queue.get()
                except TimeoutError:
                    return
                if next_event is None:
                    return
                if _matches(next_event, filters):
                    yield next_event
        finally:
            self._subscribers.discard(queue)

    def close(self) -> None:
        """End every subscriber's stream."""
        for queue in list(self._subscribers):
            queue.put_nowait(None)
        self._subscribers.clear()


def _matches(event: Event, filters: Filters | None) -> bool:
    return all(_matches_one(event, name, values) for name, values in (filters or {}).items() if values)


def _matches_one(event: Event, name: str, values: list[str]) -> bool:
    if name == "type":
        return event.type in values
    if name == "event":
        return event.action in values or event.action.split(":")[0] in values
    if name == "label":
        return all(_has_label(event.attributes, value) for value in values)
    if name in ("container", "image", "volume", "network"):
        names = (event.actor_id, event.attributes.get("name", ""), event.attributes.get(name, ""))
        if event.type != name and name not in event.attributes:
            return False
        return any(value in names or event.actor_id.startswith(value) for value in values)
    return True


def _has_label(attributes: Mapping[str, str], wanted: str) -> bool:
    key, equals, value = wanted.partition("=")
    return key in attributes and (not equals or attributes[key] == value)
