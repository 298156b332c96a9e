"""``catalogue``: the images of ``tare.local``, for people and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from tare.cli.session import Session, pass_session
from tare.cli.tables import align, write
from tare.cli.units import human_size

_NONE = "-"
_FOOT = (
    "Tags: {release}, with -nonroot (runs as 65532), -debug (with a shell) or both. ~: about, until it is here.\n"
    "tare catalogue NAME tells more about one of them.\n"
)


@click.command("catalogue", short_help="List the images that can be assembled.")
@click.argument("name", required=False, default="")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_session
def catalogue(session: Session, /, name: str, as_json: bool) -> None:
    """List the images of tare.local with their sizes, or describe one of them (nginx, distroless/nginx, …).

    Nothing is fetched or assembled for this; tare pull does that.
    """
    if name:
        one = session.run(lambda client: client.catalogue.get(name))
        write(json.dumps(one, indent=2, ensure_ascii=False) + "\n" if as_json else "\n".join(lines_of(one)) + "\n")
        return
    everything = session.run(lambda client: client.catalogue.list())
    write(json.dumps(everything, indent=2, ensure_ascii=False) + "\n" if as_json else table_of(everything))


def table_of(everything: list[dict[str, Any]]) -> str:
    """The catalogue as a table: ``HERE`` are the tags that the engine has."""
    rows = [[one["Repository"], size_of(one), _here(one), one["Content"]] for one in everything]
    release = everything[0]["Tags"][0]
    return align([["REPOSITORY", "SIZE", "HERE", "CONTENT"], *rows]) + "\n" + _FOOT.format(release=release)


def _here(one: dict[str, Any]) -> str:
    """The tags that are here; a number where the images are of different repositories."""
    present = one["Present"]
    if any(image["Name"].rpartition(":")[0] != one["Repository"] for image in present):
        return f"{len(present)} image{'' if len(present) == 1 else 's'}"
    return ", ".join(image["Tag"] for image in present) or _NONE


def size_of(one: dict[str, Any]) -> str:
    """``21.6MB``, ``~21.6MB`` when it is not exact, ``-`` when nobody knows."""
    if one["Size"] is None:
        return _NONE
    return ("" if one["SizeIs"] == "exact" else "~") + human_size(one["Size"])


def lines_of(one: dict[str, Any]) -> Iterator[str]:
    """All about one repository."""
    config, nonroot = one["Config"], one["NonrootConfig"]
    facts = [
        ("content", one["Content"]),
        ("size", size_of(one)),
        ("tags", ", ".join(one["Tags"])),
        ("packages", ", ".join(one["Packages"])),
        ("in -debug", ", ".join(["busybox", *one["DebugPackages"]]) if nonroot is not None else ""),
        ("entrypoint", " ".join(config["Entrypoint"] or ())),
        ("command", " ".join(config["Cmd"] or ())),
        ("user", _both(config, nonroot, lambda given: given["User"])),
        ("ports", _both(config, nonroot, lambda given: ", ".join(given["ExposedPorts"]))),
        ("volumes", ", ".join(config["Volumes"])),
        ("stop signal", config["StopSignal"]),
    ]
    yield one["Repository"]
    for title, text in facts:
        if text:
            yield f"  {title + ':':<13}{text}"
    for title, entries in (("left out", one["LeftOut"]), ("without", one["Without"])):
        if entries:
            yield f"  {title}:"
            width = max(map(len, entries))
            yield from (f"    {name:<{width}}  {reason}" for name, reason in entries.items())
    if one["Present"]:
        yield "  here:"
        for image in one["Present"]:
            identifier = image["Id"].removeprefix("sha256:")[:12]
            yield f"    {image['Name']}  {identifier}  {human_size(image['Size'])}  {image['Architecture']}"


def _both(config: dict[str, Any], nonroot: dict[str, Any] | None, pick: Any) -> str:
    """A value, and the one of ``-nonroot`` where it differs."""
    own = str(pick(config))
    if nonroot is None or pick(nonroot) == own:
        return own
    return f"{own}; -nonroot: {pick(nonroot)}"
