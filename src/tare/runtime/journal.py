"""Reads the log of a container from systemd's journal, through ``journalctl`` (driver ``journald``).

conmon writes one entry per line, its newline included, with ``CONTAINER_ID_FULL``, priority 6 for stdout and 3 for
stderr; a piece of a line without its newline has ``CONTAINER_PARTIAL_MESSAGE=true``. Format: journalctl(1),
``--output=json``; a message that is not UTF-8 comes as an array of byte values.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tare.errors import Unavailable
from tare.runtime.logs import MAX_LINE, LogBatch, LogQuery, log_time, select

logger = logging.getLogger(__name__)

PROGRAM = "journalctl"
_FIELDS = "MESSAGE,PRIORITY,CONTAINER_PARTIAL_MESSAGE"
_OPTIONS = ("--quiet", "--no-pager", "--all", "--output=json", f"--output-fields={_FIELDS}")
_BLOCK = 1 << 16
_ERROR_PRIORITY = "3"
_DATED = re.compile(rb"(?:19[7-9]|2\d\d)\d-\d\d-\d\dT\d\d:\d\d:\d\d")


@dataclass(slots=True)
class EntryReader:
    """Takes journalctl's output apart, in blocks of any size. Pure."""

    _rest: bytes = b""

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The entries completed by ``data``; what is no JSON object is passed over."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        entries = []
        for text in whole:
            with contextlib.suppress(ValueError):
                entry = json.loads(text)
                if isinstance(entry, dict):
                    entries.append(entry)
        return entries


@dataclass(slots=True)
class EntryJoiner:
    """Turns journal entries into the program's lines. Pure. ``cursor`` is where the last entry stands."""

    cursor: str = ""
    _partial: dict[int, tuple[bytes, bytearray]] = field(default_factory=dict)

    def join(self, entries: list[dict[str, Any]]) -> LogBatch:
        """The lines completed by ``entries``."""
        lines: LogBatch = []
        for entry in entries:
            self.cursor = str(entry.get("__CURSOR") or self.cursor)
            stream = _stream_of(entry)
            moment, data = self._partial.pop(stream, (b"", bytearray()))
            moment = moment or log_time(int(entry.get("__REALTIME_TIMESTAMP") or 0) * 1000)
            data += _message_of(entry)
            if not _is_partial(entry):
                lines.append((stream, moment, bytes(data) if data.endswith(b"\n") else bytes(data) + b"\n"))
            elif len(data) >= MAX_LINE:
                lines.append((stream, moment, bytes(data)))
            else:
                self._partial[stream] = (moment, data)
        return lines

    def flush(self) -> LogBatch:
        """What has come without a newline."""
        lines = [(stream, moment, bytes(data)) for stream, (moment, data) in self._partial.items()]
        self._partial.clear()
        return lines


def _stream_of(entry: dict[str, Any]) -> int:
    return 2 if entry.get("PRIORITY") == _ERROR_PRIORITY else 1


def _is_partial(entry: dict[str, Any]) -> bool:
    return entry.get("CONTAINER_PARTIAL_MESSAGE") == "true"


def _message_of(entry: dict[str, Any]) -> bytes:
    message = entry.get("MESSAGE")
    return bytes(message) if isinstance(message, list) else str(message or "").encode()


async def read_journal(
    container_id: str, query: LogQuery, done: asyncio.Event | None = None
) -> AsyncGenerator[LogBatch, None]:
    """The container's lines in the journal that ``query`` asks for, as :func:`tare.runtime.logs.read_logs` gives them.

    With ``done`` it follows until that is set. Raises Unavailable when journalctl is missing or fails.
    """
    await _sync()
    place = await _place_of(container_id, query)
    joiner = EntryJoiner()
    while True:
        last_round = done is None or done.is_set()
        async with aclosing(_entries(container_id, place, None if last_round else done)) as blocks:
            async for entries in blocks:
                chosen, past = select(joiner.join(entries), query)
                if chosen:
                    yield chosen
                if past:
                    return
        if last_round:
            chosen, _ = select(joiner.flush(), query)
            if chosen:
                yield chosen
            return
        # The program has ended: what it wrote last may not have reached journalctl.
        await _sync()
        if joiner.cursor:
            place = [f"--after-cursor={joiner.cursor}"]


async def _place_of(container_id: str, query: LogQuery) -> list[str]:
    """journalctl's options for where to begin."""
    if query.tail is not None:
        return await _tail_place(container_id, query.tail)
    if _DATED.match(query.since):
        return [f"--since={query.since[:10].decode()} {query.since[11:19].decode()} UTC"]
    return []


async def _tail_place(container_id: str, count: int) -> list[str]:
    """Behind the entry that ends the line before the last ``count``; an unfinished line counts as one."""
    ended = 0
    seen: set[int] = set()
    async with aclosing(_entries(container_id, ["--reverse"], None)) as blocks:
        async for entries in blocks:
            for entry in entries:
                stream = _stream_of(entry)
                if not _is_partial(entry) or stream not in seen:
                    ended += 1
                seen.add(stream)
                if ended > count:
                    return [f"--after-cursor={entry['__CURSOR']}"]
    return []


async def _entries(
    container_id: str, place: list[str], done: asyncio.Event | None
) -> AsyncGenerator[list[dict[str, Any]], None]:
    """Blocks of entries; with ``done``, also those to come until it is set."""
    reader = EntryReader()
    following = ["--follow", "--no-tail"] if done is not None else []
    async with _running(*_OPTIONS, *following, *place, f"CONTAINER_ID_FULL={container_id}") as child:
        assert child.stdout is not None and child.stderr is not None
        while data := await _read(child.stdout, done):
            if entries := await asyncio.to_thread(reader.feed, data):
                yield entries
        if done is not None and done.is_set():
            return
        words = (await child.stderr.read()).decode(errors="replace").strip()
        if await child.wait() != 0:
            raise Unavailable(f"{PROGRAM} failed: {words}", hint="look at systemd-journald", code="no-journal")


async def _read(stdout: asyncio.StreamReader, done: asyncio.Event | None) -> bytes:
    """The next block; empty at the end, or when ``done`` is set."""
    if done is None:
        return await stdout.read(_BLOCK)
    tasks = asyncio.ensure_future(stdout.read(_BLOCK)), asyncio.ensure_future(done.wait())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result() if tasks[0].done() else b""
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _running(*options: str) -> AsyncIterator[Process]:
    """journalctl, which is ended with the block."""
    env = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8"}
    try:
        child = await asyncio.create_subprocess_exec(
            PROGRAM, *options, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=env
        )
    except FileNotFoundError as error:
        raise Unavailable(f"{PROGRAM}: program not found", hint="install the package systemd") from error
    try:
        yield child
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
        # A pipe with unread bytes in it would keep the child from being reaped.
        await child.communicate()


async def _sync() -> None:
    """Have journald write what it has been sent. Without it reading goes on with what there is."""
    async with _running("--quiet", "--sync") as child:
        _, words = await child.communicate()
    if child.returncode != 0:
        logger.debug("journalctl --sync: %s", words.decode(errors="replace").strip())
