"""Events as the API gives them (EventMessage)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tare.engine.requests import Event

NANOSECONDS = 1_000_000_000


def render_event(event: Event) -> dict[str, Any]:
    """EventMessage, with the old members (``status``, ``id``, ``from``) that Docker keeps for containers and images."""
    document: dict[str, Any] = {
        "Type": event.type,
        "Action": event.action,
        "Actor": {"ID": event.actor_id, "Attributes": dict(event.attributes)},
        "scope": "local",
        "time": event.time_ns // NANOSECONDS,
        "timeNano": event.time_ns,
    }
    if event.type in ("container", "image"):
        document = {"status": event.action, "id": event.actor_id, **document}
        if event.type == "container":
            document["from"] = event.attributes.get("image", "")
    return document
