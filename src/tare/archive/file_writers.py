"""Threads that make small files: making one waits for the disk's journal, and for the processor, again and again."""

from __future__ import annotations

import queue
import threading
from collections.abc import Hashable
from typing import Protocol

_THREADS = 3
_AHEAD = 16  # files that are waiting or being made


class Work(Protocol):
    """A piece of work."""

    def __call__(self, *, wanted: bool) -> None:
        """Do it, or let go of what it has."""
        ...


class FileWriters:
    """Does pieces of work, each under a key, in no order. Its owner is one thread, which closes it.

    Work is called once in any case, and told by ``wanted`` whether an earlier piece has failed.
    """

    def __init__(self) -> None:
        self._todo: queue.SimpleQueue[tuple[Hashable, Work] | None] = queue.SimpleQueue()
        self._free: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(_AHEAD):
            self._free.put(None)
        self._pending: set[Hashable] = set()
        self._threads: list[threading.Thread] = []
        self._error: BaseException | None = None

    def add(self, key: Hashable, work: Work) -> None:
        """Have ``work`` done before :meth:`settle` returns; nothing may be under way with this key."""
        self._free.get()
        self._pending.add(key)
        self._todo.put((key, work))
        if len(self._threads) < _THREADS:
            self._threads.append(threading.Thread(target=self._run, name="unpack", daemon=True))
            self._threads[-1].start()

    def settle(self, key: Hashable | None = None) -> None:
        """Wait until all is done; with ``key`` only where that is under way. Raises the first error."""
        if self._pending and (key is None or key in self._pending):
            for _ in range(_AHEAD):
                self._free.get()
            for _ in range(_AHEAD):
                self._free.put(None)
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End the threads; after an error the rest is not done. Idempotent."""
        for _ in self._threads:
            self._todo.put(None)
        for thread in self._threads:
            thread.join()
        self._threads = []

    def _run(self) -> None:
        while (task := self._todo.get()) is not None:
            key, work = task
            try:
                work(wanted=self._error is None)
            except BaseException as error:
                self._error = self._error or error
            self._pending.discard(key)
            self._free.put(None)
