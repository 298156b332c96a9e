"""Disk usage as the API gives it (SystemDataUsageResponse, the form with one list per kind)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tare.api.schema.cache import render_record
from tare.api.schema.container import render_summary as render_container
from tare.api.schema.images import render_summary as render_image
from tare.api.schema.volumes import render_volume


def render_usage(usage: Mapping[str, Any], *, now: float) -> dict[str, Any]:
    """``GET /system/df``, from the engine's images, containers, volumes and build cache with sizes in bytes."""
    cache = [render_record(record) for record in usage["build_cache"]]
    return {
        "LayersSize": usage["layers_size"],
        "Images": [{**render_image(image), "SharedSize": 0} for image in usage["images"]],
        "Containers": [
            render_container(container, {}, {}, now=now, sizes=sizes) for container, sizes in usage["containers"]
        ],
        "Volumes": [
            {**render_volume(volume), "UsageData": {"Size": size, "RefCount": len(volume.users)}}
            for volume, size in usage["volumes"]
        ],
        "BuildCache": cache,
        "BuilderSize": sum(record["Size"] for record in cache if not record["Shared"]),
    }
