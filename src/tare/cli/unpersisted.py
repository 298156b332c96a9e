"""What containers would lose: ``unpersisted``, and the notes of ``rm`` and ``prune``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import click

from tare.cli.session import Session, pass_session
from tare.cli.tables import align
from tare.cli.units import human_size
from tare.client.client import Client
from tare.errors import TareError

ENTRIES_AT_REMOVAL = 5000
"""Directory entries that are looked at before a container is removed, so that it does not take noticeably longer."""
SMALLEST_NOTE = 4096
"""Bytes in one place from which its loss is worth a note."""
_NOTES = 3
_REMOVABLE = {"status": ["created", "exited", "dead"]}


@click.command(short_help="List data that would be lost with containers, and the volumes that keep it.")
@click.argument("containers", nargs=-1, required=True)
@pass_session
def unpersisted(session: Session, containers: tuple[str, ...]) -> None:
    """List files in containers that look like data or logs and are in no volume."""

    async def act(client: Client, name: str) -> None:
        await show_unpersisted(client, name)

    session.each(containers, act)


async def show_unpersisted(client: Client, name: str) -> None:
    """Print what the container would lose. Raises NotFound."""
    found = await client.containers.unpersisted(name)
    rows = [
        [human_size(one["Size"]), str(one["Files"]), one["Kind"], one["Path"], one["Option"]] for one in found["Data"]
    ]
    print(align([["SIZE", "FILES", "KIND", "PATH", "KEEP WITH"], *rows]), end="", flush=True)
    if not found["Complete"]:
        print(f"note: {name}: it has too many files to look at all of them", file=sys.stderr)


async def notes_before_removal(client: Client, name: str) -> list[str]:
    """What to say when the container has been removed; nothing for one that was made to go (``--rm``)."""
    try:
        found = await client.containers.unpersisted(name, entries=ENTRIES_AT_REMOVAL)
    except TareError:
        return []
    return [] if found["AutoRemove"] else _notes(found)


async def notes_before_prune(client: Client) -> dict[str, list[str]]:
    """The notes of each container that a prune may remove, by identifier."""
    stopped = await client.containers.list(everything=True, filters=_REMOVABLE)
    return {one["Id"]: await notes_before_removal(client, one["Id"]) for one in stopped}


def tell_notes(notes: Iterable[str]) -> None:
    """Print notes on standard error."""
    for note in notes:
        print(note, file=sys.stderr, flush=True)


def _notes(found: dict[str, Any]) -> list[str]:
    worth = [one for one in found["Data"] if one["Size"] >= SMALLEST_NOTE]
    at_least = "" if found["Complete"] else "at least "
    name = found["Container"]
    notes = [
        f"note: {name}: {at_least}{human_size(one['Size'])} in {one['Path']} would have been kept with {one['Option']}"
        for one in worth[:_NOTES]
    ]
    if rest := worth[_NOTES:]:
        notes.append(f"note: {name}: and {human_size(sum(one['Size'] for one in rest))} in {len(rest)} more places")
    return notes
