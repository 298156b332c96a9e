"""Events and attachments: what waits, what is told, what ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tare.engine.events import BACKLOG, HISTORY, Events
from tare.engine.live import ContainerAttachment, LiveContainers
from tare.engine.requests import AttachRequest, Event, Exit, Filters


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def collect(stream: AsyncIterator[Event]) -> list[str]:
    return [event.action async for event in stream]


async def past(events: Events, filters: Filters | None = None) -> list[str]:
    return await collect(events.subscribe(0, time.time(), filters))


async def test_subscribers_get_what_comes() -> None:
    events = Events()
    events.publish("container", "before", "1")
    readers = [asyncio.create_task(collect(events.subscribe())) for _ in range(2)]
    await settle()
    events.publish("container", "start", "1")
    events.publish("container", "die", "1")
    await settle()
    events.close()
    assert await asyncio.gather(*readers) == [["start", "die"]] * 2


async def test_history_since_and_until() -> None:
    events = Events()
    for number in range(HISTORY + 5):
        events.publish("container", str(number), "1")
    assert await past(events) == [str(number) for number in range(5, HISTORY + 5)]
    assert await collect(events.subscribe(time.time() + 100, time.time())) == []
    assert await collect(events.subscribe(None, time.time())) == await past(events)
    assert await collect(events.subscribe(0, 0)) == await past(events)
    assert await collect(events.subscribe(None, time.time() - 1)) == []


async def test_until_ends_a_running_stream() -> None:
    events = Events()
    begin = time.time()
    assert await collect(events.subscribe(None, begin + 0.05)) == []
    assert time.time() >= begin + 0.05


async def test_a_slow_subscriber_is_dropped_not_waited_for() -> None:
    events = Events()
    slow = events.subscribe()
    first = asyncio.ensure_future(anext(slow))
    await settle()
    events.publish("container", "0", "1")
    await first
    for number in range(BACKLOG + 10):
        events.publish("container", str(number + 1), "1")
    assert len(await collect(slow)) == BACKLOG
    events.publish("container", "more", "1")


async def test_a_subscriber_that_leaves_is_forgotten() -> None:
    events = Events()
    reader = asyncio.create_task(collect(events.subscribe()))
    await settle()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert not events._subscribers


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (None, ["start", "pull", "exec_start: ls", "connect"]),
        ({"type": ["image"]}, ["pull"]),
        ({"type": ["image", "network"]}, ["pull", "connect"]),
        ({"event": ["start"]}, ["start"]),
        ({"event": ["exec_start"]}, ["exec_start: ls"]),
        ({"container": ["web"]}, ["start", "exec_start: ls"]),
        ({"container": ["abc"]}, ["start", "exec_start: ls", "connect"]),
        ({"container": ["other"]}, []),
        ({"image": ["box"]}, ["start", "pull", "exec_start: ls"]),
        ({"label": ["tier"]}, ["start"]),
        ({"label": ["tier=web"]}, ["start"]),
        ({"label": ["tier=db"]}, []),
        ({"network": ["front"]}, ["connect"]),
        ({"type": []}, ["start", "pull", "exec_start: ls", "connect"]),
        ({"type": ["container"], "event": ["pull"]}, []),
    ],
)
async def test_filters(filters: dict[str, list[str]] | None, found: list[str]) -> None:
    events = Events()
    events.publish("container", "start", "abc1", {"name": "web", "image": "box", "tier": "web"})
    events.publish("image", "pull", "box", {"name": "box"})
    events.publish("container", "exec_start: ls", "abc1", {"name": "web", "image": "box"})
    events.publish("network", "connect", "n1", {"name": "front", "container": "abc1"})
    if filters == {"container": ["abc"]}:
        found = ["start", "exec_start: ls"]  # an attribute is compared as a whole
    assert await past(events, filters) == found


class Streams:
    """A process's streams as the runtime gives them."""

    def __init__(self, *output: tuple[int, bytes]) -> None:
        self.output = output
        self.written: list[bytes] = []
        self.closed = 0
        self.stdin_closed = 0

    async def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        for item in self.output:
            yield item

    async def write(self, data: bytes) -> None:
        self.written.append(data)

    async def close_stdin(self) -> None:
        self.stdin_closed += 1

    def close(self) -> None:
        self.closed += 1


async def read(attachment: ContainerAttachment) -> list[tuple[int, bytes]]:
    return [item async for item in attachment]


async def test_attachment_before_the_start_loses_nothing() -> None:
    attachment = ContainerAttachment(AttachRequest(stdin=True, stdout=True, stderr=True))
    reading, writing = asyncio.create_task(read(attachment)), asyncio.create_task(attachment.write(b"in"))
    await settle()
    assert not reading.done()
    streams = Streams((1, b"o"), (2, b"e"))
    attachment.begin(streams)  # type: ignore[arg-type]
    await writing
    await attachment.close_stdin()
    assert await reading == [(1, b"o"), (2, b"e")]
    assert (streams.written, streams.stdin_closed) == ([b"in"], 1)
    attachment.close()
    assert (streams.closed, attachment.is_closed) == (1, True)


@pytest.mark.parametrize(("stdout", "stderr", "seen"), [(True, False, [1]), (False, True, [2]), (False, False, [])])
async def test_only_the_streams_asked_for(stdout: bool, stderr: bool, seen: list[int]) -> None:
    attachment = ContainerAttachment(AttachRequest(stdout=stdout, stderr=stderr))
    streams = Streams((1, b"o"), (2, b"e"))
    attachment.begin(streams)  # type: ignore[arg-type]
    await attachment.write(b"dropped")
    await attachment.close_stdin()
    assert [number for number, _ in await read(attachment)] == seen
    assert (streams.written, streams.stdin_closed) == ([], 0)


@pytest.mark.parametrize("end", ["give_up", "close"])
async def test_attachment_to_what_never_starts_ends(end: str) -> None:
    attachment = ContainerAttachment(AttachRequest(stdin=True, stdout=True))
    reading = asyncio.create_task(read(attachment))
    await settle()
    getattr(attachment, end)()
    getattr(attachment, end)()
    assert await reading == []
    await attachment.write(b"nobody")
    attachment.begin(Streams((1, b"late")))  # type: ignore[arg-type]
    assert await read(attachment) == []


async def test_waits_end_by_condition() -> None:
    live = LiveContainers()
    exited, removed = live.add_waiter("a", "not-running"), live.add_waiter("a", "removed")
    other = live.add_waiter("b", "not-running")
    live.wake("a", {"not-running", "next-exit"}, Exit(code=3))
    assert (await exited, removed.done(), other.done()) == (Exit(code=3), False, False)
    live.wake("a", {"removed"}, Exit(code=4))
    assert (await removed).code == 4
    live.wake("ghost", {"removed"}, Exit(code=1))
    assert len(live.all()) == 2
    live.forget("a")
    live.forget("a")
    assert len(live.all()) == 1
    other.cancel()


async def test_a_cancelled_wait_does_not_hurt() -> None:
    live = LiveContainers()
    waiter = live.add_waiter("a", "removed")
    waiter.cancel()
    live.wake("a", {"removed"}, Exit(code=0))
    assert live.of("a").waiters == []
