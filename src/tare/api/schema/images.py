"""Images as the API gives them: ImageSummary, ImageInspect, HistoryResponseItem."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from tare.api.wording import ZERO_TIME, format_time, parse_time

if TYPE_CHECKING:
    from tare.api.versions import Version
    from tare.engine.requests import ImageSummary
    from tare.oci.image import ExecutionConfig, History
    from tare.store.images import Image

_CONFIG_ALWAYS: dict[str, Any] = {
    "Cmd": None,
    "Entrypoint": None,
    "Env": None,
    "Labels": None,
    "OnBuild": None,
    "User": "",
    "Volumes": None,
    "WorkingDir": "",
}
"""Members of an image's Config that are there even when they say nothing."""

_CONFIG_OF_CONTAINERS: dict[str, Any] = {
    "AttachStderr": False,
    "AttachStdin": False,
    "AttachStdout": False,
    "Domainname": "",
    "Hostname": "",
    "Image": "",
    "OpenStdin": False,
    "StdinOnce": False,
    "Tty": False,
}
"""What it has besides before API 1.50."""

_COUNTED_SINCE, _PLAIN_CONFIG_SINCE, _NO_CONTAINER_CONFIG_SINCE = (1, 51), (1, 50), (1, 45)
_NO_VIRTUAL_SIZE_SINCE, _NO_NAMES_SINCE = (1, 44), (1, 43)


def render_summary(summary: ImageSummary, version: Version) -> dict[str, Any]:
    """ImageSummary, as API ``version`` has it."""
    document = {
        "Containers": summary.containers if version >= _COUNTED_SINCE else -1,
        "Created": int(parse_time(summary.created or "")),
        "Id": str(summary.id),
        "Labels": None if summary.labels is None else dict(summary.labels),
        "ParentId": summary.parent,
        "RepoDigests": [str(digest) for digest in summary.digests],
        "RepoTags": [_tag(tag) for tag in summary.tags],
        "SharedSize": summary.shared_size,
        "Size": summary.size,
    }
    if version < _NO_VIRTUAL_SIZE_SINCE:
        document["VirtualSize"] = summary.size
    if version < _NO_NAMES_SINCE and not (summary.tags or summary.digests):
        document |= {"RepoDigests": ["<none>@<none>"], "RepoTags": ["<none>:<none>"]}
    return document


def render_inspect(image: Image, parent: str, version: Version) -> dict[str, Any]:
    """ImageInspect, as API ``version`` has it; ``parent`` is the ID of the image that it was committed from."""
    config = image.config
    return {
        "Id": str(image.id),
        "RepoTags": [_tag(tag) for tag in image.tags],
        "RepoDigests": [_tag(digest) for digest in image.digests],
        "Parent": parent,
        "Comment": config.history[-1].comment if config.history else "",
        "Created": config.created or ZERO_TIME,
        **({"ContainerConfig": _no_container_config()} if version < _NO_CONTAINER_CONFIG_SINCE else {}),
        "DockerVersion": config.docker_version,
        "Author": config.author,
        "Architecture": config.architecture,
        **({"Variant": config.variant} if config.variant else {}),
        "Os": config.os,
        "Size": image.size,
        **({"VirtualSize": image.size} if version < _NO_VIRTUAL_SIZE_SINCE else {}),
        "GraphDriver": {"Data": {}, "Name": "overlay"},
        "RootFS": {"Type": "layers", "Layers": [str(diff_id) for diff_id in image.diff_ids]},
        "Metadata": {"LastTagTime": ZERO_TIME if image.tagged is None else format_time(image.tagged)},
        "Config": _render_config(config.config, version),
    }


def _render_config(config: ExecutionConfig, version: Version) -> dict[str, Any]:
    document = {**_CONFIG_ALWAYS, **(_CONFIG_OF_CONTAINERS if version < _PLAIN_CONFIG_SINCE else {})}
    document |= {
        name: value for name, value in msgspec.to_builtins(config).items() if value or name in ("Cmd", "Entrypoint")
    }
    return dict(sorted(document.items()))


def _no_container_config() -> dict[str, Any]:
    """What Docker says of the container of an image that no container made."""
    return dict(sorted({**_CONFIG_ALWAYS, **_CONFIG_OF_CONTAINERS}.items()))


def _tag(tag: object) -> str:
    familiar = getattr(tag, "familiar", None)
    return str(familiar()) if callable(familiar) else str(tag)


def render_history(lineage: Sequence[Image], steps: Sequence[tuple[History, int]]) -> list[dict[str, Any]]:
    """HistoryResponseItems, newest first.

    ``lineage`` is the image and those that it was committed from: their steps have the images' identifiers and names.
    """
    items: list[dict[str, Any]] = [
        {
            "Comment": step.comment,
            "Created": int(parse_time(step.created or "")),
            "CreatedBy": step.created_by,
            "Id": "<missing>",
            "Size": size,
            "Tags": None,
        }
        for step, size in steps
    ]
    for item, image in zip(items, lineage, strict=False):
        item.update(Id=str(image.id), Tags=[_tag(tag) for tag in image.tags if not tag.digest] or None)
    return items
