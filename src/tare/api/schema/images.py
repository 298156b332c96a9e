"""Images as the API gives them: ImageSummary, ImageInspect, HistoryResponseItem."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tare.api.schema.container import render_config
from tare.api.wording import ZERO_TIME, format_time, parse_time

if TYPE_CHECKING:
    from tare.engine.requests import ImageSummary
    from tare.oci.image import History
    from tare.store.images import Image

# ContainerConfig members that an image's Config shows even when they are empty.
_CONFIG_DEFAULTS: dict[str, Any] = {
    "Hostname": "",
    "Domainname": "",
    "User": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Env": [],
    "Cmd": None,
    "Image": "",
    "Volumes": None,
    "WorkingDir": "",
    "Entrypoint": None,
    "OnBuild": None,
    "Labels": {},
}


def render_summary(summary: ImageSummary) -> dict[str, Any]:
    """ImageSummary."""
    return {
        "Containers": summary.containers,
        "Created": int(parse_time(summary.created or "")),
        "Id": str(summary.id),
        "Labels": dict(summary.labels or {}),
        "ParentId": "",
        "RepoDigests": [str(digest) for digest in summary.digests],
        "RepoTags": [_tag(tag) for tag in summary.tags],
        "SharedSize": -1,
        "Size": summary.size,
    }


def render_inspect(image: Image) -> dict[str, Any]:
    """ImageInspect."""
    config = image.config
    document: dict[str, Any] = {
        "Id": str(image.id),
        "RepoTags": [_tag(tag) for tag in image.tags],
        "RepoDigests": [_tag(digest) for digest in image.digests],
        "Parent": "",
        "Comment": config.history[-1].comment if config.history else "",
        "Created": config.created or ZERO_TIME,
        "DockerVersion": "",
        "Author": config.author,
        "Config": {**_CONFIG_DEFAULTS, **render_config(config.config)},
        "Architecture": config.architecture,
        "Os": config.os,
        "Size": image.size,
        "GraphDriver": {"Name": "overlay", "Data": {}},
        "RootFS": {"Type": "layers", "Layers": [str(diff_id) for diff_id in image.diff_ids]},
        "Metadata": {"LastTagTime": format_time(image.created)},
    }
    if config.variant:
        document["Variant"] = config.variant
    return document


def _tag(tag: object) -> str:
    familiar = getattr(tag, "familiar", None)
    return str(familiar()) if callable(familiar) else str(tag)


def render_history(image: Image, steps: Sequence[tuple[History, int]]) -> list[dict[str, Any]]:
    """HistoryResponseItems, newest first; only the newest step has the image's identifier and names."""
    items: list[dict[str, Any]] = [
        {
            "Id": "<missing>",
            "Created": int(parse_time(step.created or "")),
            "CreatedBy": step.created_by,
            "Tags": None,
            "Size": size,
            "Comment": step.comment,
        }
        for step, size in steps
    ]
    if items:
        items[0].update(Id=str(image.id), Tags=[_tag(tag) for tag in image.tags] or None)
    return items
