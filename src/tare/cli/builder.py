"""``builder du``, ``builder prune``: what builds keep."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import click

from tare.cli.filters import read_filters
from tare.cli.prune import ask, report
from tare.cli.session import Session, pass_session
from tare.cli.tables import align, listing, write
from tare.cli.template import Template, to_json
from tare.cli.units import human_duration, human_size, local_time, parse_rfc3339, parse_size
from tare.errors import InvalidArgument

_TITLES = {
    "ID": "ID",
    "Parents": "PARENTS",
    "CreatedAt": "CREATED AT",
    "Mutable": "MUTABLE",
    "Reclaimable": "RECLAIMABLE",
    "Shared": "SHARED",
    "Size": "SIZE",
    "Description": "DESCRIPTION",
    "UsageCount": "USAGE COUNT",
    "LastUsedAt": "LAST ACCESSED",
    "Type": "TYPE",
}
_COLUMNS = ("ID", "Reclaimable", "Size", "LastUsedAt")
_filter = click.option("--filter", "filters", multiple=True, metavar="KEY=VALUE", help="Only those that match.")


def _flag_filters(filters: Sequence[str]) -> dict[str, list[str]]:
    """``--filter`` values; ``inuse``, ``shared``, ``private``, ``mutable`` need no ``=``."""
    flags = [text for text in filters if "=" not in text and text in ("inuse", "shared", "private", "mutable")]
    return read_filters(text for text in filters if text not in flags) | {name: [] for name in flags}


@click.command("du", short_help="Show what the build cache takes.")
@_filter
@click.option("--format", "template", default="", help="'pretty', 'table', 'json', 'table TEMPLATE' or a Go template.")
@click.option("--verbose", is_flag=True, help="Everything about each record: --format pretty.")
@pass_session
def disk_usage(session: Session, filters: tuple[str, ...], template: str, verbose: bool) -> None:
    """Show the records of the build cache and the space that they take.

    A star at the ID: the content may change. A star at the size: an image has the bytes, too.
    """
    if template and verbose:
        raise InvalidArgument("--format and --verbose cannot be used together")
    template = "pretty" if verbose else template
    wanted = _flag_filters(filters)
    records = session.run(lambda client: client.builds.cache(wanted))
    now = time.time()
    if template == "pretty":
        write("\n".join(_pretty(record, now) for record in records) + ("\n" if records else ""))
    elif template in ("", "table") or template.startswith("table "):
        write(listing([_starred(record, now) for record in records], _TITLES, _COLUMNS, template))
    elif template == "json":
        write("".join(to_json(_row(record, now)) + "\n" for record in records))
    else:
        parsed = Template(template)
        write("".join(parsed.render(_row(record, now)) + "\n" for record in records))
    if not wanted and template in ("", "table", "pretty"):
        write(align(_summary(records), min_width=1))


def _row(record: Mapping[str, Any], now: float) -> dict[str, Any]:
    return {
        "ID": record["ID"],
        "Parents": record["Parents"] or [],
        "CreatedAt": local_time(parse_rfc3339(record["CreatedAt"])),
        "Mutable": record["Mutable"],
        "Reclaimable": not record["InUse"],
        "Shared": record["Shared"],
        "Size": human_size(record["Size"], 4),
        "Description": record["Description"],
        "UsageCount": record["UsageCount"],
        "LastUsedAt": f"{human_duration(now - parse_rfc3339(record['LastUsedAt']))} ago",
        "Type": record["Type"],
    }


def _starred(record: Mapping[str, Any], now: float) -> dict[str, str]:
    """A line of the table."""
    row = _row(record, now)
    row["ID"] += "*" if record["Mutable"] else ""
    row["Size"] += "*" if record["Shared"] else ""
    return {name: _cell(value) for name, value in row.items()}


def _cell(value: object) -> str:
    if isinstance(value, list):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else " ".join(str(value).split())


def _pretty(record: Mapping[str, Any], now: float) -> str:
    row = _row(record, now)
    lines = [("ID", row["ID"])]
    lines += [("Created at", row["CreatedAt"]), ("Mutable", row["Mutable"]), ("Reclaimable", row["Reclaimable"])]
    lines += [("Shared", row["Shared"]), ("Size", row["Size"]), ("Description", row["Description"])]
    lines += [("Usage count", row["UsageCount"]), ("Last used", row["LastUsedAt"]), ("Type", row["Type"])]
    text = [f"{name + ':':<14}{_cell(value)}\n" for name, value in lines]
    if row["Parents"]:
        text.insert(1, "".join(["Parents:\n", *(f" - {parent}\n" for parent in row["Parents"])]))
    return "".join(text)


def _summary(records: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    total = sum(record["Size"] for record in records)
    shared = sum(record["Size"] for record in records if record["Shared"])
    reclaimable = sum(record["Size"] for record in records if not record["InUse"])
    lines = [("Shared", shared), ("Private", total - shared)] if shared else []
    lines += [("Reclaimable", reclaimable), ("Total", total)]
    return [[f"{name}:", human_size(size, 4)] for name, size in lines]


@click.command("prune", short_help="Remove build cache.")
@click.option("-a", "--all", "everything", is_flag=True, help="Also what images are made of.")
@click.option("-f", "--force", is_flag=True, help="Don't ask.")
@_filter
@click.option("--reserved-space", default="", metavar="SIZE", help="Space that the cache may always keep.")
@click.option("--keep-storage", default="", metavar="SIZE", hidden=True, help="The old name of --reserved-space.")
@click.option("--max-used-space", default="", metavar="SIZE", help="Most space that the cache may keep.")
@click.option("--min-free-space", default="", metavar="SIZE", help="Space that shall be free on the disk afterwards.")
@pass_session
def prune(
    session: Session,
    *,
    everything: bool,
    force: bool,
    filters: tuple[str, ...],
    reserved_space: str,
    keep_storage: str,
    max_used_space: str,
    min_free_space: str,
) -> None:
    """Remove build cache that nothing uses; without --all what images are made of stays."""
    sizes = {
        "reserved-space": _size(reserved_space or keep_storage, "--reserved-space"),
        "max-used-space": _size(max_used_space, "--max-used-space"),
        "min-free-space": _size(min_free_space, "--min-free-space"),
    }
    wanted = _flag_filters(filters)
    ask(f"This will remove all {'' if everything else 'dangling '}build cache.", force=force)
    removed = session.run(lambda client: client.builds.prune(everything=everything, filters=wanted, sizes=sizes))
    report("Deleted build cache objects:", removed["CachesDeleted"] or [])
    print(f"Total reclaimed space: {human_size(removed['SpaceReclaimed'])}")


def _size(text: str, option: str) -> int:
    return parse_size(text, option) if text else 0
