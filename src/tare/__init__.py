"""Tare, a container engine: small images, fast starts, durable data, proven isolation.

The package has one room per concern; ``docs/architecture.md`` is the map. ``tare.Client`` is the asynchronous client,
``tare.connect`` the same for programs without an event loop; both are loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tare.version import __version__

if TYPE_CHECKING:
    from tare.client.client import Client
    from tare.client.sync import Connection, connect

__all__ = ["Client", "Connection", "__version__", "connect"]

_PLACES = {"Client": "tare.client.client", "Connection": "tare.client.sync", "connect": "tare.client.sync"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'tare' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PLACES[name]), name)
