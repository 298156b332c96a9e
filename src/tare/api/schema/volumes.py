"""Volumes as the API takes and gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from tare.api.params import convert, without_nulls
from tare.api.wording import format_time

if TYPE_CHECKING:
    from tare.engine.volumes import VolumeUsage
    from tare.volumes.model import Volume
    from tare.volumes.snapshots import Snapshot


class VolumeBody(msgspec.Struct, rename="pascal", kw_only=True):
    """The body of ``POST /volumes/create``; an empty name asks for an anonymous volume."""

    name: str = ""
    driver: str = ""
    driver_opts: dict[str, str] = {}
    labels: dict[str, str] = {}


class CopyBody(msgspec.Struct, rename="pascal", kw_only=True):
    """The body of the routes for snapshots and clones; empty is what the engine chooses, or none."""

    name: str = ""
    snapshot: str = ""


def read_create(document: dict[str, Any]) -> VolumeBody:
    """Read the body; raises InvalidArgument."""
    return convert(without_nulls(document), VolumeBody)


def read_copy(document: dict[str, Any]) -> CopyBody:
    """Read the body; raises InvalidArgument."""
    return convert(without_nulls(document), CopyBody)


def render_volume(volume: Volume) -> dict[str, Any]:
    """Volume."""
    return {
        "CreatedAt": format_time(volume.created),
        "Driver": volume.driver,
        "Labels": dict(volume.labels) or None,
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Options": dict(volume.options) or None,
        "Scope": volume.scope,
        **({"Status": dict(volume.status)} if volume.status else {}),
    }


def render_usage(usage: VolumeUsage) -> dict[str, Any]:
    """A volume with its ``UsageData`` (bytes, -1 when nobody asked) and what Docker does not have."""
    return {
        **render_volume(usage.volume),
        "UsageData": {"Size": usage.size, "RefCount": len({user.id for user in usage.users})},
        "UsedBy": [
            {"Id": user.id, "Name": user.name, "State": user.status, "Destination": user.destination}
            for user in usage.users
        ],
        "Protected": usage.protected,
        "Snapshots": {"Count": usage.snapshots, "Size": usage.snapshots_size},
    }


def render_snapshot(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot; ``Size`` in bytes on disk, ``Frozen`` in seconds."""
    return {
        "Volume": snapshot.volume,
        "Name": snapshot.name,
        "CreatedAt": format_time(snapshot.created),
        "Automatic": snapshot.automatic,
        "Method": snapshot.method,
        "Size": snapshot.size,
        "Frozen": round(snapshot.frozen, 6),
    }
