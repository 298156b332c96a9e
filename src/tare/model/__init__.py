"""Values without I/O: digests, references, platforms, identifiers, states. They are loaded when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tare.model.digest import Digest
    from tare.model.ids import new_id, short_id
    from tare.model.platform import Platform
    from tare.model.reference import Reference
    from tare.model.state import ContainerStatus

__all__ = ["ContainerStatus", "Digest", "Platform", "Reference", "new_id", "short_id"]

_PLACES = {
    "ContainerStatus": "state",
    "Digest": "digest",
    "Platform": "platform",
    "Reference": "reference",
    "new_id": "ids",
    "short_id": "ids",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'tare.model' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"tare.model.{_PLACES[name]}"), name)
