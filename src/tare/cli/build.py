"""``build``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tare.cli.build_files import check_files, metadata, on_standard_output
from tare.cli.build_request import build_request
from tare.cli.build_views import MODES, make_view, progress_mode
from tare.cli.session import Session, pass_session
from tare.client.blocking import post
from tare.client.endpoint import Endpoint

if TYPE_CHECKING:
    from tare.cli.build_calls import Call


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
@click.option("--progress", type=click.Choice(MODES), help="How progress looks (default: BUILDKIT_PROGRESS, auto).")
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
@click.option("--call", default="", help="What to do: build, check, outline or targets, [,format=json].")
@click.option("--context-ls", is_flag=True, help="List what is in the context and which ignore rule decided.")
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
    call = _call(given["call"], check=given["check"])
    mode = progress_mode(given["progress"], os.environ, quiet=given["quiet"])
    given["check"], given["quiet"] = call is not None and call.method == "check", mode == "quiet"
    document = build_request(path, given)
    if given["context_ls"]:
        from tare.cli.build_context import list_context

        list_context(session.endpoint, document, as_json=mode == "json")
        return
    if call is not None:
        sys.exit(0 if _ask(session.endpoint, document, call) else 1)
    check_files(document["outputs"], given["iidfile"])
    for name in ("iidfile", "metadata_file"):
        if given[name]:
            Path(given[name]).unlink(missing_ok=True)
    with on_standard_output(document["outputs"]):
        result = _build(session.endpoint, document, mode)
        if result is None:
            sys.exit(1)
    if given["iidfile"]:
        Path(given["iidfile"]).write_text(result["image_id"])
    if given["metadata_file"]:
        Path(given["metadata_file"]).write_text(metadata(result))
    if given["quiet"] and not document["outputs"]:
        print(result["image_id"])


def _call(text: str, *, check: bool) -> Call | None:
    """What is asked instead of a build; None for a build."""
    if not (text or check):
        return None
    from tare.cli.build_calls import Call

    call = Call.parse(text, check=check)
    return call if call.method != "build" else None


def _build(endpoint: Endpoint, document: dict[str, Any], mode: str) -> dict[str, Any] | None:
    """Run it and show it; returns the result, None when the build failed (which has been told)."""
    view = make_view(mode)
    last: dict[str, Any] = {}
    try:
        with view, post(endpoint, "/tare/build", document) as answer:
            for event in answer.documents():
                last = event
                view.show(event)
    except KeyboardInterrupt:
        # Leaving the block has closed the connection: the engine ends the steps and undoes their mounts.
        if mode == "json":
            view.show({"event": "error", "message": "build canceled", "code": "canceled"})
        else:
            print("ERROR: build canceled", file=sys.stderr, flush=True)
        raise
    succeeded = last.get("event") == "result"
    if mode == "json":
        return last if succeeded else None
    from tare.cli.build_plain import show_failure, show_weighing

    if succeeded and mode != "quiet":
        show_weighing(last, document["tags"])
    if view.findings and mode != "quiet":
        from tare.cli.build_checks import show_findings

        show_findings(view.findings)
    if not succeeded:
        show_failure(last, view.names)
    return last if succeeded else None


def _ask(endpoint: Endpoint, document: dict[str, Any], call: Call) -> bool:
    """Have the Dockerfile looked at and print the answer; returns whether the command has succeeded."""
    if call.method != "check":
        document["describe"] = call.method
    last: dict[str, Any] = {}
    with post(endpoint, "/tare/build", document) as answer:
        for event in answer.documents():
            last = event
    if last.get("event") != "result":
        from tare.cli.build_plain import show_failure

        show_failure(last, {})
        return False
    if call.method == "check":
        from tare.cli.build_checks import print_report

        return print_report(last["report"], as_json=call.as_json) or call.ignore_status
    from tare.cli.build_outline import print_answer

    print_answer(last["report"], call.method, as_json=call.as_json)
    return True
