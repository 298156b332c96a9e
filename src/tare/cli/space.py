"""``system df``: what takes how much space."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import click

from tare.cli.images import image_rows
from tare.cli.listing import container_row
from tare.cli.session import Session, pass_session
from tare.cli.tables import align, listing, write
from tare.cli.template import Template, to_json
from tare.cli.units import ago, human_size, local_time, parse_rfc3339
from tare.errors import InvalidArgument

Document = Mapping[str, Any]
Rows = list[dict[str, Any]]

_TITLES = {"Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE"}
_IMAGE = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "Size": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "Containers": "CONTAINERS",
}
_CONTAINER = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "LocalVolumes": "LOCAL VOLUMES",
    "Size": "SIZE",
    "RunningFor": "CREATED",
    "Status": "STATUS",
    "Names": "NAMES",
}
_VOLUME = {"Name": "VOLUME NAME", "Links": "LINKS", "Size": "SIZE"}
_CACHE = {
    "ID": "CACHE ID",
    "CacheType": "CACHE TYPE",
    "Size": "SIZE",
    "CreatedSince": "CREATED",
    "LastUsedSince": "LAST USED",
    "UsageCount": "USAGE",
    "Shared": "SHARED",
}
_SHORT_ID = 12


@click.command("df", short_help="Show what takes how much space.")
@click.option(
    "-v", "--verbose", is_flag=True, help="Show every image, container, volume and record of the build cache."
)
@click.option("--format", "template", default="", help="'table', 'json', 'table TEMPLATE' or a Go template.")
@pass_session
def disk_usage(session: Session, verbose: bool, template: str) -> None:
    """Show how much space images, containers, volumes and the build cache take."""
    if verbose and template.startswith("table "):
        raise InvalidArgument("a table of --verbose has its own columns", hint="leave --format away, or use a template")
    usage = session.run(lambda client: client.system.disk_usage())
    if verbose:
        write(_details(usage, template, time.time()))
    else:
        write(listing(_sums(usage), _TITLES, tuple(_TITLES), template))


def _sums(usage: Document) -> Rows:
    """A row for each kind. As in Docker, layers are reclaimed that no image of a container has for itself."""
    images, containers, volumes = usage["Images"] or [], usage["Containers"] or [], usage["Volumes"] or []
    cache = [one for one in usage.get("BuildCache") or [] if not one["Shared"]]
    used_images = [one for one in images if one["Containers"] > 0]
    kept = sum(one["Size"] - one["SharedSize"] for one in used_images)
    live = [one for one in containers if one["State"] in ("running", "paused", "restarting")]
    used_volumes = [one for one in volumes if one["UsageData"]["RefCount"]]
    written, written_live = (sum(int(one.get("SizeRw") or 0) for one in some) for some in (containers, live))
    stored, stored_used = (sum(max(one["UsageData"]["Size"], 0) for one in some) for some in (volumes, used_volumes))
    cached, cached_used = (sum(one["Size"] for one in some) for some in (cache, [one for one in cache if one["InUse"]]))
    in_use = sum(one["InUse"] for one in usage.get("BuildCache") or [])
    layers = usage["LayersSize"]
    return [
        _sum("Images", len(images), len(used_images), layers, layers - kept),
        _sum("Containers", len(containers), len(live), written, written - written_live),
        _sum("Local Volumes", len(volumes), len(used_volumes), stored, stored - stored_used),
        _sum("Build Cache", len(usage.get("BuildCache") or []), in_use, cached, cached - cached_used, share=False),
    ]


def _sum(kind: str, count: int, active: int, size: int, free: int, *, share: bool = True) -> dict[str, Any]:
    free = min(size, free)
    percent = f" ({100 * free // size}%)" if share and size else ""
    return {
        "Active": str(active),
        "Reclaimable": human_size(free, 4) + percent,
        "Size": human_size(size, 4),
        "TotalCount": str(count),
        "Type": kind,
    }


def _details(usage: Document, template: str, now: float) -> str:
    """Every object: as tables, as one JSON document, or as a template makes it of that document."""
    images = [row for one in usage["Images"] or [] for row in _image_rows(one, now)]
    containers = [_container_row(one, now) for one in usage["Containers"] or []]
    volumes = [_volume_row(one) for one in usage["Volumes"] or []]
    records = sorted(usage.get("BuildCache") or [], key=lambda one: (one["LastUsedAt"], one["ID"]))
    cache = [_cache_row(one, now) for one in records]
    if template not in ("", "table"):
        document = {"Images": images, "Containers": containers, "Volumes": volumes, "BuildCache": cache}
        return f"{to_json(document)}\n" if template == "json" else Template(template).render(document)
    size = human_size(sum(one["Size"] for one in records if not one["Shared"]), 4)
    return "\n".join(
        (
            f"Images space usage:\n\n{_table(images, _IMAGE)}",
            f"Containers space usage:\n\n{_table(containers, _CONTAINER)}",
            f"Local Volumes space usage:\n\n{_table(volumes, _VOLUME)}",
            f"Build cache usage: {size}\n\n{_table(cache, _CACHE)}",
        )
    )


def _short(text: str) -> str:
    return text.removeprefix("sha256:")[:_SHORT_ID]


def _is_id(key: str, text: str) -> bool:
    return key == "ID" or (key == "Image" and text.startswith("sha256:"))


def _table(rows: Sequence[Document], titles: Mapping[str, str]) -> str:
    cells = [[_short(row[key]) if _is_id(key, row[key]) else row[key] for key in titles] for row in rows]
    return align([[*titles.values()], *cells])


def _image_rows(image: dict[str, Any], now: float) -> Rows:
    sizes = {
        "SharedSize": human_size(image["SharedSize"], 4),
        "UniqueSize": human_size(image["Size"] - image["SharedSize"], 4),
    }
    return [dict(sorted({**row, **sizes}.items())) for row in image_rows(image, now, full=True)]


def _container_row(container: dict[str, Any], now: float) -> dict[str, Any]:
    row = container_row({**container, "SizeRootFs": 0}, now, full=False)
    return {**row, "ID": container["Id"], "Image": container["Image"]}


def _volume_row(volume: dict[str, Any]) -> dict[str, Any]:
    size = volume["UsageData"]["Size"]
    return {
        "Driver": volume["Driver"],
        "Labels": ",".join(f"{key}={value}" for key, value in sorted((volume["Labels"] or {}).items())),
        "Links": str(volume["UsageData"]["RefCount"]),
        "Mountpoint": volume["Mountpoint"],
        "Name": volume["Name"],
        "Scope": volume["Scope"],
        "Size": human_size(size, 4) if size >= 0 else "N/A",
    }


def _cache_row(record: Document, now: float) -> dict[str, Any]:
    created, used = (parse_rfc3339(record[name] or "") for name in ("CreatedAt", "LastUsedAt"))
    return {
        "CacheType": record["Type"],
        "CreatedAt": local_time(created),
        "CreatedSince": ago(created, now),
        "Description": record["Description"],
        "ID": record["ID"],
        "InUse": str(record["InUse"]).lower(),
        "LastUsedAt": local_time(used),
        "LastUsedSince": ago(used, now),
        "Parent": ", ".join(record["Parents"] or []),
        "Shared": str(record["Shared"]).lower(),
        "Size": human_size(record["Size"]),
        "UsageCount": str(record["UsageCount"]),
    }
