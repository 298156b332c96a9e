"""Progress of transfers: what ``pull``, ``push``, ``load`` and ``import`` tell (Engine API, ``CreateImageInfo``)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from tare.errors import InternalError

FAILED = "transfer"
"""Code of the error that a stream ends with."""


@dataclass(frozen=True, slots=True)
class Progress:
    """One message of a transfer.

    ``id`` is the part that it is about (a layer; empty: the whole), ``current`` and ``total`` say how far that is, in
    bytes unless ``units`` says otherwise; a total of 0 is not known. ``aux`` is what the operation has found or made.
    """

    status: str = ""
    id: str = ""
    current: int = 0
    total: int = 0
    units: str = ""
    aux: dict[str, Any] = field(default_factory=dict)

    @property
    def is_step(self) -> bool:
        """Whether it says only how far something is."""
        return self.current > 0 or self.total > 0

    @classmethod
    def read(cls, message: dict[str, Any]) -> Progress:
        """From one document of the stream. Raises InternalError for a failure, with the words of the engine."""
        if error := message.get("error"):
            raise InternalError(str(error), code=FAILED)
        detail = message.get("progressDetail") or {}
        status = str(message.get("status") or message.get("stream") or "")
        return cls(
            status=status.rstrip("\n"),
            id=str(message.get("id") or ""),
            current=_number(detail.get("current")),
            total=_number(detail.get("total")),
            units=str(detail.get("units") or ""),
            aux=aux if isinstance(aux := message.get("aux"), dict) else {},
        )


def _number(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0


async def read_progress(documents: AsyncIterator[dict[str, Any]]) -> AsyncIterator[Progress]:
    """The messages of a stream. Raises InternalError when the operation has failed."""
    async for document in documents:
        yield Progress.read(document)
