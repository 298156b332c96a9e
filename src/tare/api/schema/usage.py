"""Disk usage as the API gives it (SystemDataUsageResponse, the form with one list per kind)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tare.api.schema.cache import render_record
from tare.api.schema.container import render_summary as render_container
from tare.api.schema.images import render_summary as render_image
from tare.api.schema.volumes import render_volume
from tare.api.versions import API_VERSION, parse_version

_COUNTING = parse_version(API_VERSION)  # here images have always had their containers counted


def render_usage(usage: Mapping[str, Any], *, now: float) -> dict[str, Any]:
    """``GET /system/df``, from the engine's images, containers, volumes and build cache with sizes in bytes.

    What was not asked for is null.
    """
    images, containers, volumes, records = map(usage.get, ("images", "containers", "volumes", "build_cache"))
    cache = None if records is None else [render_record(record) for record in records]
    return {
        "LayersSize": usage.get("layers_size", 0),
        "Images": None if images is None else [render_image(image, _COUNTING) for image in images],
        "Containers": None
        if containers is None
        else [
            render_container(container, {}, {}, now=now, sizes=sizes, image=image)
            for container, sizes, image in containers
        ],
        "Volumes": None
        if volumes is None
        else [
            {**render_volume(volume), "UsageData": {"Size": size, "RefCount": len(volume.users)}}
            for volume, size in volumes
        ],
        "BuildCache": cache,
        "BuilderSize": sum(record["Size"] for record in cache or () if not record["Shared"]),
    }
