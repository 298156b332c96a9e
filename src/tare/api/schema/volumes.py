"""Volumes as the API takes and gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from tare.api.params import convert, without_nulls
from tare.api.wording import format_time

if TYPE_CHECKING:
    from tare.volumes.model import Volume


class VolumeBody(msgspec.Struct, rename="pascal", kw_only=True):
    """The body of ``POST /volumes/create``; an empty name asks for an anonymous volume."""

    name: str = ""
    driver: str = ""
    driver_opts: dict[str, str] = {}
    labels: dict[str, str] = {}


def read_create(document: dict[str, Any]) -> VolumeBody:
    """Read the body; raises InvalidArgument."""
    return convert(without_nulls(document), VolumeBody)


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
