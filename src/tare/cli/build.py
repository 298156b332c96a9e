"""``build``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from tare.cli.build_files import check_files, metadata, on_standard_output
from tare.cli.build_request import build_request
from tare.cli.session import Session, pass_session
from tare.client.blocking import post
from tare.client.endpoint import Endpoint


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
@click.option("--metadata-file", default="", help="Write what was built to this file, as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Print only the image's ID.")
@click.option("--build-context", "contexts", multiple=True, help="Further context: NAME=DIRECTORY|URL|docker-image://…")
@click.option("--secret", "secrets", multiple=True, help="Secret for RUN steps: id=NAME[,src=FILE|,env=VARIABLE].")
@click.option("--ssh", multiple=True, help="SSH agent or keys for RUN steps: default|ID[=SOCKET|KEY[,KEY]].")
@click.option("--allow", multiple=True, help="Grant an entitlement: security.insecure, network.host.")
@click.option("--no-cache-filter", multiple=True, help="Run the steps of these stages anew.")
@click.option("-o", "--output", "outputs", multiple=True, help="Where the result goes: DIRECTORY or type=…,dest=….")
@click.option("--annotation", "annotations", multiple=True, help="Annotation of the manifest: KEY=VALUE.")
@click.option("--ulimit", "ulimits", multiple=True, help="Limit of RUN steps: name=soft[:hard].")
@click.option("--check", is_flag=True, help="Check the Dockerfile, build nothing.")
@click.option("--plan", is_flag=True, help="Say what would run, run nothing.")
@click.option("--why", is_flag=True, help="Say for each step that ran why it was not cached.")
@click.option("--debug", is_flag=True, help="Open a shell in the file system of a step that failed.")
@click.option("--budget", default="", help="Fail if the image weighs more than this, such as 150m.")
@click.option("--shm-size", default="", help="Size of /dev/shm, such as 64m.")
@click.option("--rm/--no-rm", "rm", default=True, hidden=True)
@click.option("--force-rm", is_flag=True, hidden=True)
@click.option("--load", is_flag=True, hidden=True)
@click.argument("path")
@pass_session
def build(session: Session, /, path: str, **given: Any) -> None:
    """Build an image from the Dockerfile and the directory PATH."""
    document = build_request(path, given)
    check_files(document["outputs"], given["iidfile"])
    for name in ("iidfile", "metadata_file"):
        if given[name]:
            Path(given[name]).unlink(missing_ok=True)
    with on_standard_output(document["outputs"]):
        last = _build(session.endpoint, document, quiet=given["quiet"], progress=given["progress"])
        if last.get("event") != "result":
            _offer_shell(session, last, open_now=given["debug"])
            sys.exit(1)
    if given["iidfile"]:
        Path(given["iidfile"]).write_text(last["image_id"])
    if given["metadata_file"]:
        Path(given["metadata_file"]).write_text(metadata(last))
    if given["quiet"] and not document["outputs"]:
        print(last["image_id"])


def _build(endpoint: Endpoint, document: dict[str, Any], *, quiet: bool, progress: str) -> dict[str, Any]:
    """Run it and show it; returns its last event, no ``result`` when the build failed (which has been told)."""
    from tare.cli.build_plain import PlainView, QuietView, show_failure, show_weighing

    live = progress == "tty" or (progress == "auto" and sys.stderr.isatty())
    view: Any = QuietView()
    if not quiet and live:
        from tare.cli.build_tree import TreeView

        view = TreeView()
    elif not quiet:
        view = PlainView()
    last: dict[str, Any] = {}
    with view, post(endpoint, "/tare/build", document) as answer:
        for event in answer.documents():
            last = event
            view.show(event)
    if last.get("event") != "result":
        show_failure(last, view.names)
    elif not quiet:
        show_weighing(last, document["tags"])
    return last


def _offer_shell(session: Session, last: dict[str, Any], *, open_now: bool) -> None:
    """Say how to get into the failed step, or go into it where there is a terminal."""
    step = last.get("step")
    if step and open_now and sys.stdin.isatty() and sys.stdout.isatty():
        from tare.cli.debug import look_into

        look_into(session, step)
    elif step:
        print(f"look into the failed step with: tare debug {step}", file=sys.stderr)
    elif open_now:
        print("no step is kept that a shell could be opened in", file=sys.stderr)
