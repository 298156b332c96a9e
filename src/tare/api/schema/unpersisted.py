"""What a container would lose, as the API gives it."""

from __future__ import annotations

from typing import Any

from tare.engine.requests import Unpersisted


def render_unpersisted(found: Unpersisted) -> dict[str, Any]:
    """The answer of ``/tare/containers/{id}/unpersisted``; sizes in bytes."""
    return {
        "Container": found.container,
        "AutoRemove": found.auto_remove,
        "Complete": found.complete,
        "Data": [
            {"Path": one.path, "Kind": one.kind, "Size": one.size, "Files": one.files, "Option": one.option}
            for one in found.data
        ],
    }
