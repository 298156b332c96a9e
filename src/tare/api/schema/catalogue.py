"""The catalogue, as the API gives it."""

from __future__ import annotations

from typing import Any

from tare.engine.catalogue import Shelf
from tare.oci.image import ExecutionConfig


def render_shelf(shelf: Shelf) -> dict[str, Any]:
    """One repository. ``Size`` is null where nobody knows, and exact only when ``SizeIs`` says so."""
    offer = shelf.offer
    return {
        "Repository": offer.repository,
        "Content": offer.content,
        "Tags": [*offer.tags],
        "Size": shelf.size or None,
        "SizeIs": "exact" if shelf.exact else "approximate",
        "Present": [
            {
                "Name": tag.familiar(),
                "Tag": tag.tag,
                "Id": str(image.id),
                "Size": image.size,
                "Architecture": image.config.architecture,
            }
            for tag, image in shelf.present
        ],
        "Packages": [*offer.packages],
        "DebugPackages": [*offer.tools],
        "LeftOut": dict(offer.left_out),
        "Without": dict(offer.without),
        "Config": _execution(offer.plain),
        "NonrootConfig": _execution(offer.nonroot) if len(offer.tags) > 1 else None,
    }


def _execution(config: ExecutionConfig) -> dict[str, Any]:
    return {
        "User": config.user,
        "Entrypoint": config.entrypoint,
        "Cmd": config.cmd,
        "ExposedPorts": config.exposed_ports or {},
        "Volumes": config.volumes or {},
        "StopSignal": config.stop_signal,
    }
