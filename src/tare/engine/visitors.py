"""Who looks at containers' files for long: debugging sessions, and how they are told to leave.

A session holds the mounts of the container that it looks at. What needs them gone (the end of a run, the next start, a
removal) dismisses the sessions first: containers behave as if nobody were looking.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Leave = Callable[[str], None]
"""Tells a visitor to leave, and why, in words; returns at once."""


@dataclass(slots=True, eq=False)
class _Visitor:
    leave: Leave
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class Visitors:
    """The visitors of all containers, by the container's identifier."""

    def __init__(self) -> None:
        self._present: dict[str, list[_Visitor]] = {}

    @contextlib.contextmanager
    def visiting(self, container_id: str, leave: Leave) -> Iterator[None]:
        """Be counted among the container's visitors for the length of the block, which gives up its mounts at the end.

        Enter it with the container's lock, so that nobody can dismiss visitors between looking and entering.
        """
        visitor = _Visitor(leave)
        present = self._present.setdefault(container_id, [])
        present.append(visitor)
        try:
            yield
        finally:
            present.remove(visitor)
            if not present and self._present.get(container_id) is present:
                del self._present[container_id]
            visitor.gone.set()

    async def dismiss(self, container_id: str, why: str) -> None:
        """Have the container's visitors leave; returns when they have, at once when there are none."""
        present = list(self._present.get(container_id, ()))
        for visitor in present:
            visitor.leave(why)
        for visitor in present:
            await visitor.gone.wait()
