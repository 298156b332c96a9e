"""``images``, ``pull``, ``push``, ``tag``, ``rmi``, ``history``, ``import``."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import click

from tare.cli.filters import read_filters
from tare.cli.options import BooleanValues
from tare.cli.pulling import pull_reference, push_reference, read_name, split_name
from tare.cli.session import Session, pass_session
from tare.cli.tables import listing, short_id, shorten, write
from tare.cli.units import ago, human_size, local_time
from tare.client.client import Client
from tare.errors import InternalError, NotFound

_NONE = "<none>"
_TITLES = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Containers": "CONTAINERS",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "VirtualSize": "SIZE",
}
_COLUMNS = ("Repository", "Tag", "ID", "CreatedSince", "Size")
_HISTORY = {"ID": "IMAGE", "CreatedSince": "CREATED", "CreatedBy": "CREATED BY", "Size": "SIZE", "Comment": "COMMENT"}
_STEP_WIDTH = 45
CHUNK = 256 * 1024


@click.command(short_help="List images.")
@click.argument("repository", required=False)
@click.option("-a", "--all", "everything", is_flag=True, help="Show all images.")
@click.option("-q", "--quiet", is_flag=True, help="Only show image IDs.")
@click.option("--no-trunc", is_flag=True, help="Don't shorten the output.")
@click.option("--digests", is_flag=True, help="Show digests.")
@click.option("-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE", help="Only those that match.")
@click.option("--format", "template", default="", help="'table', 'json', 'table TEMPLATE' or a Go template.")
@pass_session
def images(
    session: Session,
    *,
    repository: str | None,
    everything: bool,
    quiet: bool,
    no_trunc: bool,
    digests: bool,
    filters: tuple[str, ...],
    template: str,
) -> None:
    """List images."""
    wanted = read_filters(filters)
    if repository:
        wanted["reference"] = [*wanted.get("reference", []), repository]

    found = session.run(lambda client: client.images.list(everything=everything, filters=wanted))
    now = time.time()
    digests = digests or "{{.Digest}}" in template
    rows = [row for image in found for row in image_rows(image, now, full=no_trunc, digests=digests)]
    if quiet and not template:
        write("".join(f"{identifier}\n" for identifier in [row["ID"] for row in rows]))
        return
    columns = ("Repository", "Tag", "Digest", "ID", "CreatedSince", "Size") if digests else _COLUMNS
    write(listing(rows, _TITLES, columns, template))


def image_rows(image: dict[str, Any], now: float, *, full: bool, digests: bool = False) -> list[dict[str, str]]:
    """The columns of an image, once for each of its names; ``now`` is seconds since 1970.

    With ``digests`` once for each digest that a registry knows the name by, as Docker has it.
    """
    common = {
        "ID": image["Id"] if full else short_id(image["Id"]),
        "CreatedSince": ago(image["Created"], now),
        "CreatedAt": local_time(image["Created"]),
        "Size": human_size(image["Size"]),
        "Digest": _NONE,
        "Containers": str(image["Containers"]) if image.get("Containers", -1) >= 0 else "N/A",
        "SharedSize": "N/A",
        "UniqueSize": "N/A",
        "VirtualSize": human_size(image["Size"], 4),
    }
    known: dict[str, list[str]] = {}
    for name in image.get("RepoDigests") or []:
        repository, _, digest = name.partition("@")
        known.setdefault(repository, []).append(digest)
    rows = []
    tagged = set()
    for name in image.get("RepoTags") or []:
        repository, _, tag = name.rpartition(":")
        tagged.add(repository)
        shown = known.get(repository, [_NONE]) if digests else [_NONE]
        rows += [{**common, "Repository": repository, "Tag": tag, "Digest": digest} for digest in shown]
    for repository in [name for name in known if name not in tagged]:
        shown = known[repository] if digests else [_NONE]
        rows += [{**common, "Repository": repository, "Tag": _NONE, "Digest": digest} for digest in shown]
    return rows or [{**common, "Repository": _NONE, "Tag": _NONE}]


@click.command(short_help="Fetch or assemble an image.")
@click.option("-a", "--all-tags", is_flag=True, help="Fetch all tags of the repository.")
@click.option("-q", "--quiet", is_flag=True, help="Don't show progress.")
@click.option("--platform", default="", help="Platform, such as linux/amd64.")
@click.option("--disable-content-trust", is_flag=True, default=True, hidden=True)
@click.argument("name")
@pass_session
def pull(
    session: Session, *, all_tags: bool, quiet: bool, platform: str, disable_content_trust: bool, name: str
) -> None:
    """Fetch an image from a registry, or assemble one of tare.local."""
    reference = read_name(name, all_tags=all_tags, quiet=quiet)
    session.run(lambda client: pull_reference(client, reference, platform=platform, quiet=quiet))
    print(str(reference))


@click.command(short_help="Send an image to a registry.")
@click.option("-a", "--all-tags", is_flag=True, help="Send all tags of the repository.")
@click.option("-q", "--quiet", is_flag=True, help="Don't show progress.")
@click.option("--platform", default="", help="Of an image for several platforms only this one.")
@click.option("--disable-content-trust", is_flag=True, default=True, hidden=True)
@click.argument("name")
@pass_session
def push(
    session: Session, *, all_tags: bool, quiet: bool, platform: str, disable_content_trust: bool, name: str
) -> None:
    """Send an image to the registry that its name says."""
    reference = read_name(name, all_tags=all_tags, quiet=quiet)
    session.run(lambda client: push_reference(client, reference, platform=platform, quiet=quiet))
    if quiet:
        print(str(reference))


@click.command(short_help="Give an image one more name.")
@click.argument("source")
@click.argument("target")
@pass_session
def tag(session: Session, source: str, target: str) -> None:
    """Make TARGET a name of the image SOURCE."""
    repository, name = split_name(target)
    session.run(lambda client: client.images.tag(source, repository, name))


@click.command("rm", short_help="Remove images.")
@click.argument("names", nargs=-1, required=True)
@click.option("-f", "--force", is_flag=True, help="Remove it with all its names.")
@click.option("--no-prune", is_flag=True, help="Keep parents without a name.")
@click.option("--platform", "platforms", multiple=True, help="Only the image for os/architecture[/variant].")
@pass_session
def remove(session: Session, names: tuple[str, ...], force: bool, no_prune: bool, platforms: tuple[str, ...]) -> None:
    """Take names away from images; an image goes with its last name."""
    wanted = [one for text in platforms for one in text.split(",")]

    async def act(client: Client, name: str) -> str | None:
        try:
            removed = await client.images.remove(name, force=force, noprune=no_prune, platforms=wanted)
        except NotFound as error:
            if not force:
                raise
            click.echo(f"Error response from daemon: {error.message}", err=True)
            return None
        lines = [f"Untagged: {item['Untagged']}" for item in removed if item.get("Untagged")]
        lines += [f"Deleted: {item['Deleted']}" for item in removed if item.get("Deleted")]
        return "\n".join(lines)

    session.each(names, act)


@click.command(cls=BooleanValues, short_help="Show the steps of an image.")
@click.argument("name")
@click.option("-q", "--quiet", is_flag=True, help="Only show image IDs.")
@click.option("--no-trunc", is_flag=True, help="Don't shorten the output.")
@click.option("-H", "--human/--no-human", default=True, help="Sizes and times for people.")
@click.option("--format", "template", default="", help="'table', 'json', 'table TEMPLATE' or a Go template.")
@click.option("--platform", default="", help="The image for os/architecture[/variant].")
@pass_session
def history(
    session: Session, *, name: str, quiet: bool, no_trunc: bool, human: bool, template: str, platform: str
) -> None:
    """Show the steps of an image, newest first."""
    steps = session.run(lambda client: client.images.history(name, platform=platform))
    now = time.time()
    rows = []
    for step in steps:
        made_by = step["CreatedBy"].replace("\t", " ")
        rows.append(
            {
                "ID": step["Id"] if no_trunc else short_id(step["Id"]),
                "CreatedSince": ago(step["Created"], now) if human else local_time(step["Created"]),
                "CreatedAt": local_time(step["Created"]),
                "CreatedBy": made_by if no_trunc else shorten(made_by, _STEP_WIDTH),
                "Size": human_size(step["Size"]) if human else str(step["Size"]),
                "Comment": step["Comment"],
            }
        )
    if quiet:
        write("".join(f"{row['ID']}\n" for row in rows))
        return
    write(listing(rows, {**_HISTORY, "CreatedAt": "CREATED AT"}, tuple(_HISTORY), template))


@click.command("import", short_help="Make an image of a root file system's tar.")
@click.argument("source")
@click.argument("name", required=False, default="")
@click.option("-c", "--change", "changes", multiple=True, help="Apply a Dockerfile instruction.")
@click.option("-m", "--message", default="", help="Comment of the image.")
@click.option("--platform", default="", help="Platform that the image is for, such as linux/arm64.")
@pass_session
def import_image(
    session: Session, *, source: str, name: str, changes: tuple[str, ...], message: str, platform: str
) -> None:
    """Make an image of a root file system's tar: a file, an http(s) address that the engine fetches, or - for standard
    input.
    """
    repository, label = split_name(name, "cannot import digest reference") if name else ("", "")
    remote = source.startswith(("http://", "https://"))
    if source != "-" and not remote and not Path(source).is_file():
        raise NotFound(f"open {source}: no such file or directory")

    async def work(client: Client, stream: BinaryIO | None) -> None:
        messages = client.images.import_tar(
            _chunks(stream) if stream is not None else None,
            source=source if remote else "-",
            repository=repository,
            tag=label,
            message=message,
            changes=list(changes),
            platform=platform,
        )
        async for document in messages:
            if "error" in document:
                raise InternalError(str(document["error"]), code="engine")
            print(document.get("status", ""), flush=True)

    with _opened(source, remote=remote) as opened:
        session.run(lambda client: work(client, opened))


def _opened(source: str, *, remote: bool) -> AbstractContextManager[BinaryIO | None]:
    if remote:
        return nullcontext()
    return nullcontext(sys.stdin.buffer) if source == "-" else Path(source).open("rb")


async def _chunks(stream: BinaryIO) -> AsyncIterator[bytes]:
    while data := stream.read(CHUNK):
        yield data
