"""What a check of the store finds, in the form in which it leaves the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import msgspec


class State(StrEnum):
    """What has become of a problem."""

    FOUND = "found"  # nobody asked for a repair; ``repair`` says what one would do
    REPAIRED = "repaired"
    LEFT = "left"  # cannot be healed here; ``fix`` says what can be done


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as it should be.

    ``code`` is a stable name such as ``layer-damaged``, ``kind`` and ``object`` name the thing (``layer`` and its
    digest), ``cause`` is what is wrong with it, ``used_by`` who needs it (``image app:1``, ``container web``).
    ``repair`` is what a repair does about it, ``fix`` what somebody has to do; all are sentences without a full stop.
    """

    code: str
    kind: str
    object: str
    cause: str
    state: State = State.FOUND
    used_by: list[str] = []
    repair: str = ""
    fix: str = ""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a check is: bytes that were read of those that are to be read, and what is looked at now."""

    done: int
    total: int
    what: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a check came to: how many objects of each kind it has looked at, the bytes that it read, its problems.

    ``found`` are those that a repair was not asked for, ``left`` those that it could do nothing about.
    """

    checked: dict[str, int]
    bytes: int
    seconds: float
    found: int
    repaired: int
    left: int
    deep: bool
    repair: bool

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong, any more."""
        return not (self.found or self.left)


Observe = Callable[[Problem | Progress], None]
"""Is told what is found, in the event loop's thread; never blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """``repair`` heals what can be healed, ``deep`` compares the content of unpacked files with their layer's."""

    repair: bool = False
    deep: bool = False
