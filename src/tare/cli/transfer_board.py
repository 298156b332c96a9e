"""What is known of a transfer while it runs: its parts (layers), their bytes, and how fast they come."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from tare.client.progress import Progress

WAITING, RUNNING, DONE, ENDED = "waiting", "running", "done", "ended"
_WINDOW = 5.0  # seconds over which a rate is taken
_SETTLED = 0.5  # seconds before which a rate says nothing
_WAITING = ("Pulling fs layer", "Waiting", "Preparing")
_DONE = ("Pull complete", "Already exists", "Pushed", "Layer already exists", "Skipped foreign layer", "Sent")
_DONE_BEGINNINGS = ("Mounted from ",)
_MOVING = ("Downloading", "Pushing", "Sending", "Saving")
"""What moves bytes from here to there, as against unpacking them."""
_LOADING = "Loading layer"  # out of an archive, of which the bytes are counted when it is sent
_HEADINGS = ("Pulling from ", "Assembling from ")


class Meter:
    """Bytes per second over the last seconds."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, now: float, amount: int) -> None:
        """``amount`` bytes are there in all."""
        self._samples.append((now, amount))
        while len(self._samples) > 2 and self._samples[1][0] < now - _WINDOW:
            self._samples.popleft()

    def rate(self, now: float) -> float:
        """Bytes per second; 0 when it is too early to say, and falling when nothing comes any more."""
        if len(self._samples) < 2:
            return 0.0
        (began, before), (_, last) = self._samples[0], self._samples[-1]
        return (last - before) / (now - began) if now - began >= _SETTLED else 0.0


@dataclass(slots=True)
class Part:
    """A layer, or whatever else has lines of its own. Sizes in bytes; a ``total`` of 0 is not known."""

    id: str
    status: str = ""
    state: str = WAITING
    current: int = 0
    total: int = 0
    moved: int = 0  # bytes that have come or gone, over all of its states
    size: int = 0  # bytes that will have, when known
    counts: bool = False  # whether they are part of the sum
    meter: Meter = field(default_factory=Meter)

    def take(self, progress: Progress, now: float) -> None:
        """Take in one message about it."""
        if progress.status != self.status:
            self.meter = Meter()
        self.status = progress.status
        in_bytes = progress.is_step and not progress.units
        self.total = progress.total if in_bytes else 0
        self.current = min(progress.current, self.total or progress.current) if in_bytes else 0
        if in_bytes:
            self.meter.add(now, self.current)
        if progress.status in _MOVING:
            self.size = max(self.size, self.total or self.current)
            self.moved = max(self.moved, self.current)
            self.counts = True
        elif progress.status == _LOADING:
            self.size = self.total
        elif progress.status not in _WAITING:
            self.moved = self.size
        self.state = self._state()

    def _state(self) -> str:
        if self.status in _WAITING:
            return WAITING
        loaded = self.status == _LOADING and self.total > 0 and self.current == self.total
        done = self.status in _DONE or self.status.startswith(_DONE_BEGINNINGS) or loaded
        return DONE if done else RUNNING


class Board:
    """The parts of one image's transfer, with the lines before (``headings``) and after (``notes``) them."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.ended: float | None = None
        self.headings: list[str] = []
        self.notes: list[str] = []
        self.parts: dict[str, Part] = {}
        self._meter = Meter()

    def take(self, progress: Progress, now: float) -> None:
        """Take in one message."""
        if not progress.status:
            return
        if self.is_heading(progress):
            self.headings.append(f"{progress.id}: {progress.status}" if progress.id else progress.status)
        elif not progress.id:
            self.notes.append(progress.status)
        else:
            part = self.parts.setdefault(progress.id, Part(progress.id))
            part.take(progress, now)
            if progress.status in _MOVING:
                self._meter.add(now, self.moved)

    def is_about(self, progress: Progress) -> bool:
        """Whether it is about a transfer: a layer that is known, or a layer's first words."""
        known = progress.status in (*_WAITING, *_DONE) or progress.status.startswith((_HEADINGS[0], *_DONE_BEGINNINGS))
        return bool(progress.id) and (progress.id in self.parts or known)

    def is_heading(self, progress: Progress) -> bool:
        """Whether it begins something: the first words about an image."""
        return progress.status.startswith(_HEADINGS) or not (progress.id or self.parts or self.headings)

    def is_over_before(self, progress: Progress) -> bool:
        """Whether ``progress`` belongs to the next image: all is done, the last words have been said."""
        if not self.notes or not progress.status:
            return False
        return (bool(progress.id) or self.is_heading(progress)) and not self.of(WAITING, RUNNING)

    def end(self, now: float, *, failed: bool) -> None:
        """Nothing comes any more: what has no last word of its own is done, or was broken off."""
        self.ended = now
        for part in self.of(WAITING, RUNNING):
            part.state = ENDED if failed else DONE

    def of(self, *states: str) -> list[Part]:
        """The parts in one of ``states``."""
        return [part for part in self.parts.values() if part.state in states]

    @property
    def moved(self) -> int:
        """Bytes that have come or gone."""
        return sum(part.moved for part in self.parts.values() if part.counts)

    @property
    def size(self) -> int:
        """Bytes in all, as far as known."""
        return sum(part.size for part in self.parts.values() if part.counts)

    @property
    def is_size_known(self) -> bool:
        """Whether every part that is still to come has said how large it is."""
        return all(part.size or part.state == DONE for part in self.parts.values())

    def rate(self, now: float) -> float:
        """Bytes per second."""
        return self._meter.rate(now)

    def seconds_left(self, now: float) -> float | None:
        """How long it takes to move what is left; None when that cannot be said."""
        rate = self.rate(now)
        return (self.size - self.moved) / rate if rate > 0 and self.is_size_known else None


def has_bytes(parts: Iterable[Part]) -> bool:
    """Whether any of them has moved bytes."""
    return any(part.size and part.counts for part in parts)
