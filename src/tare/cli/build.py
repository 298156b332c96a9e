"""``build``."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from tare.cli.environment import read_labels
from tare.cli.session import Session, pass_session
from tare.cli.units import parse_size
from tare.client.client import Client
from tare.errors import InvalidArgument, NotFound, Unsupported


@click.command(short_help="Build an image from a Dockerfile.")
@click.option("-t", "--tag", "tags", multiple=True, help="Name of the image: name[:tag].")
@click.option(
    "-f", "--file", "dockerfile", default="", help="Dockerfile (default: PATH/Dockerfile), - for standard input."
)
@click.option("--target", default="", help="Stage to build.")
@click.option("--build-arg", "build_args", multiple=True, help="Build argument: NAME=VALUE, or NAME to pass one on.")
@click.option("--label", "labels", multiple=True, help="Label: KEY=VALUE.")
@click.option("--no-cache", is_flag=True, help="Run every step.")
@click.option("--pull", is_flag=True, help="Look for newer base images.")
@click.option("--network", default="", help="Network of RUN steps: default, none, host.")
@click.option("--add-host", "hosts", multiple=True, help="Line for /etc/hosts: name:address.")
@click.option("--platform", default="", help="Platform, such as linux/amd64.")
@click.option("--progress", type=click.Choice(["auto", "plain", "tty"]), default="auto", help="How progress looks.")
@click.option("--iidfile", default="", help="Write the image's ID to this file.")
@click.option("-q", "--quiet", is_flag=True, help="Print only the image's ID.")
@click.option("--shm-size", default="", help="Size of /dev/shm, such as 64m.")
@click.option("--rm/--no-rm", "rm", default=True, hidden=True)
@click.option("--force-rm", is_flag=True, hidden=True)
@click.option("--load", is_flag=True, hidden=True)
@click.argument("path")
@pass_session
def build(session: Session, /, path: str, **given: Any) -> None:
    """Build an image from the Dockerfile and the directory PATH."""
    document = build_request(path, given)
    iidfile = Path(given["iidfile"]) if given["iidfile"] else None
    if iidfile:
        iidfile.unlink(missing_ok=True)
    outcome = session.run(lambda client: _build(client, document, quiet=given["quiet"], progress=given["progress"]))
    if outcome is None:
        sys.exit(1)
    if iidfile:
        iidfile.write_text(outcome)
    if given["quiet"]:
        print(outcome)


def build_request(path: str, given: dict[str, Any], environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The body of ``POST /tare/build``. Raises InvalidArgument, NotFound, Unsupported."""
    if path == "-" or "://" in path or path.startswith("git@"):
        raise Unsupported(
            f"build context {path}: only a directory can be built", hint="fetch it and name the directory"
        )
    context = Path(path).absolute()
    if not context.is_dir():
        cause = "is not a directory" if context.exists() else "not found"
        raise NotFound(f'unable to prepare context: path "{path}" {cause}', hint="name the directory to build")
    for tag in given["tags"]:
        from tare.model import Reference

        Reference.parse(tag)
    name, text = _dockerfile(context, given["dockerfile"])
    return {
        "context": str(context),
        "dockerfile": name,
        "dockerfile_text": text,
        "tags": list(given["tags"]),
        "build_args": _build_args(given["build_args"], os.environ if environ is None else environ),
        "labels": read_labels(given["labels"]),
        "target": given["target"],
        "no_cache": given["no_cache"],
        "pull": given["pull"],
        "network": given["network"],
        "extra_hosts": list(given["hosts"]),
        "platform": given["platform"],
        "shm_size": parse_size(given["shm_size"], '"--shm-size"') if given["shm_size"] else 0,
        "quiet": given["quiet"],
    }


def _dockerfile(context: Path, given: str) -> tuple[str, str | None]:
    """Its name in the context, or its name and text when it lies outside."""
    if not given:
        return "Dockerfile", None
    if given == "-":
        return "Dockerfile", sys.stdin.read()
    place = Path(given).absolute()
    try:
        inside = Path(os.path.relpath(place, context))
        if not place.exists() and (context / given).exists():
            return given, None
        if ".." not in inside.parts:
            place.stat()
            return str(inside), None
        return given, place.read_text()
    except FileNotFoundError as error:
        raise NotFound(
            f"unable to prepare context: unable to evaluate symlinks in Dockerfile path: {place}: no such file",
            hint="-f names the Dockerfile",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"failed to read dockerfile {given}: {error}") from error


def _build_args(given: tuple[str, ...], environ: Mapping[str, str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name:
            raise InvalidArgument(f'invalid argument "{text}" for "--build-arg"', hint="use NAME=VALUE")
        if equals:
            found[name] = value
        elif name in environ:
            found[name] = environ[name]
    return found


async def _build(client: Client, document: dict[str, Any], *, quiet: bool, progress: str) -> str | None:
    """Run it and show it; returns the image's ID, None when the build failed (which has been told)."""
    from tare.cli.build_plain import PlainView, QuietView, show_failure, show_weighing

    live = progress == "tty" or (progress == "auto" and sys.stderr.isatty())
    view: Any = QuietView()
    if not quiet and live:
        from tare.cli.build_tree import TreeView

        view = TreeView()
    elif not quiet:
        view = PlainView()
    last: dict[str, Any] = {}
    with view:
        async for event in client.builds.build(document):
            last = event
            view.show(event)
            if live:
                await asyncio.sleep(0)  # let the screen be drawn between bursts of events
    if last.get("event") != "result":
        show_failure(last, view.names)
        return None
    if not quiet:
        show_weighing(last, document["tags"])
    return str(last["image_id"])
