"""``inspect`` for every kind of object."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import click

from tare.cli.session import Session, pass_session, tell
from tare.cli.template import Template, to_json
from tare.client.client import Client
from tare.errors import NotFound, TareError

Look = Callable[[Client, str], Awaitable[dict[str, Any]]]
_KINDS: dict[str, Look] = {
    "container": lambda client, name: client.containers.inspect(name),
    "image": lambda client, name: client.images.inspect(name),
    "network": lambda client, name: client.networks.inspect(name),
    "volume": lambda client, name: client.volumes.inspect(name),
}

_names = click.argument("names", nargs=-1, required=True)
_format = click.option("-f", "--format", "template", default="", help="'json' or a Go template.")


async def _with_size(client: Client, name: str, wanted: str | None) -> dict[str, Any]:
    """A container with its sizes, or anything else and a word about it."""
    for kind, look in _KINDS.items():
        if wanted not in (None, kind):
            continue
        try:
            if kind == "container":
                return await client.containers.inspect(name, size=True)
            found = await look(client, name)
        except NotFound:
            if wanted is not None:
                raise
            continue
        print(f"WARNING: --size ignored for {kind}", file=sys.stderr)
        return found
    raise NotFound(f"no such object: {name}", code="no-such-object")


async def _any(client: Client, name: str) -> dict[str, Any]:
    for look in _KINDS.values():
        try:
            return await look(client, name)
        except NotFound:
            continue
    raise NotFound(f"no such object: {name}", code="no-such-object")


def show(session: Session, names: tuple[str, ...], template: str, look: Look) -> None:
    """Print what ``look`` finds for each name; ends the program with 1 when something is not there."""
    parsed = Template(template) if template not in ("", "json") else None

    async def work(client: Client) -> tuple[list[dict[str, Any]], list[TareError]]:
        found, failures = [], []
        for name in names:
            try:
                found.append(await look(client, name))
            except NotFound as error:
                failures.append(error)
        return found, list(failures)

    found, failures = session.run(work)
    if parsed is not None:
        for document in found:
            print(parsed.render(document))
    elif template == "json":
        for document in found:
            print(to_json(document))
    else:
        print(json.dumps(found, indent=4, ensure_ascii=False))
    sys.stdout.flush()
    for failure in failures:
        if failure.code == "no-such-object":
            print(f"Error: No such object: {failure.message.rpartition(' ')[2]}", file=sys.stderr)
        else:
            tell(failure)
    if failures:
        sys.exit(1)


@click.command(short_help="Show everything about objects.")
@_names
@_format
@click.option("--type", "kind", type=click.Choice(sorted(_KINDS)), default=None, help="Kind of object.")
@click.option("-s", "--size", is_flag=True, help="Show file sizes of containers.")
@pass_session
def inspect(session: Session, names: tuple[str, ...], template: str, kind: str | None, size: bool) -> None:
    """Show everything about containers, images, networks and volumes."""
    if size:
        show(session, names, template, lambda client, name: _with_size(client, name, kind))
    else:
        show(session, names, template, _KINDS[kind] if kind else _any)


@click.command("inspect", short_help="Show everything about containers.")
@_names
@_format
@click.option("-s", "--size", is_flag=True, help="Show file sizes.")
@pass_session
def inspect_container(session: Session, names: tuple[str, ...], template: str, size: bool) -> None:
    """Show everything about containers."""
    show(session, names, template, lambda client, name: client.containers.inspect(name, size=size))


@click.command("inspect", short_help="Show everything about images.")
@_names
@_format
@click.option("--platform", default="", help="The image for os/architecture[/variant].")
@pass_session
def inspect_image(session: Session, names: tuple[str, ...], template: str, platform: str) -> None:
    """Show everything about images."""
    show(session, names, template, lambda client, name: client.images.inspect(name, platform=platform))


@click.command("inspect", short_help="Show everything about networks.")
@_names
@_format
@click.option("-v", "--verbose", is_flag=True, help="Also what swarm knows of it: nothing here.")
@pass_session
def inspect_network(session: Session, names: tuple[str, ...], template: str, verbose: bool) -> None:
    """Show everything about networks."""
    del verbose  # adds what only swarm's networks have
    show(session, names, template, _KINDS["network"])
