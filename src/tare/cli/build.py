"""``build``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tare.cli.build_context import Context, read_context
from tare.cli.build_files import check_files, metadata, on_standard_output
from tare.cli.build_request import build_request
from tare.cli.build_views import MODES, make_view, progress_mode
from tare.cli.registry_auth import build_headers
from tare.cli.session import Session, pass_session
from tare.client.blocking import post
from tare.client.endpoint import Endpoint

if TYPE_CHECKING:
    from tare.cli.build_calls import Call


@click.command(short_help="Build an image from a Dockerfile.")
@click.option("-t", "--tag", "tags", multiple=True, help="Name of the image: name[:tag].")
@click.option(
    "-f",
    "--file",
    "dockerfile",
    default="",
    help="Dockerfile (default: PATH/Dockerfile), - for standard input, or a declarative file (.yaml).",
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
@click.option(
    "--build-context",
    "contexts",
    multiple=True,
    help="Further context: NAME=DIRECTORY|FILE.yaml|URL|docker-image://…|oci-layout://…",
)
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
@click.option("--update-lock", is_flag=True, help="Take the newest packages and write the lock file.")
@click.option("--budget", default="", help="Fail if the image weighs more than this, such as 150m.")
@click.option("--shm-size", default="", help="Size of /dev/shm, such as 64m.")
@click.option("--rm/--no-rm", "rm", default=True, hidden=True)
@click.option("--force-rm", is_flag=True, hidden=True)
@click.option("--load", is_flag=True, hidden=True)
@click.option("--push", is_flag=True, help="Push the image under its names: --output type=image,push=true.")
@click.argument("path")
@pass_session
def build(session: Session, /, path: str, **given: Any) -> None:
    """Build an image from a Dockerfile and the files at PATH.

    PATH is a directory, a git or http(s) address (https://HOST/REPOSITORY.git#REF:SUBDIRECTORY), or - for a tar archive
    or a Dockerfile on standard input. A file of which the name ends in .yaml describes a distroless image.
    """
    call = _call(given["call"], check=given["check"])
    mode = progress_mode(given["progress"], os.environ, quiet=given["quiet"])
    given["check"], given["quiet"] = call is not None and call.method == "check", mode == "quiet"
    context = read_context(path, given["dockerfile"])
    document = build_request(context, given)
    if given["update_lock"]:
        from tare.cli.build_lock import check_update

        check_update(context, document)
    if given["context_ls"]:
        from tare.cli.context_listing import list_context

        list_context(session.endpoint, document, context, as_json=mode == "json")
        return
    if call is not None:
        sys.exit(0 if _ask(session.endpoint, document, context, call) else 1)
    check_files(document["outputs"], given["iidfile"])
    for name in ("iidfile", "metadata_file"):
        if given[name]:
            Path(given[name]).unlink(missing_ok=True)
    with on_standard_output(document["outputs"]):
        last = _build(session.endpoint, document, context, mode)
        if last.get("event") != "result":
            if mode != "json":
                _offer_shell(session, last, open_now=given["debug"])
            sys.exit(1)
    if given["plan"]:
        if mode == "json":
            return
        from tare.cli.build_reasons import show_plan

        show_plan(last["forecast"])
        return
    if given["update_lock"]:
        from tare.cli.build_lock import write_locks

        write_locks(last["locks"], context, given["contexts"], quiet=mode in ("quiet", "json"))
    if given["iidfile"]:
        Path(given["iidfile"]).write_text(last["image_id"])
    if given["metadata_file"]:
        Path(given["metadata_file"]).write_text(metadata(last))
    if given["quiet"] and not given["outputs"]:
        print(last["image_id"])


def _call(text: str, *, check: bool) -> Call | None:
    """What is asked instead of a build; None for a build."""
    if not (text or check):
        return None
    from tare.cli.build_calls import Call

    call = Call.parse(text, check=check)
    return call if call.method != "build" else None


def _build(endpoint: Endpoint, document: dict[str, Any], context: Context, mode: str) -> dict[str, Any]:
    """Run it and show it; returns its last event, no ``result`` when the build failed (which has been told)."""
    if document["plan_only"] and mode != "json":
        mode = "quiet"
    headers = build_headers()
    view = make_view(mode)
    last: dict[str, Any] = {}
    explained: list[dict[str, Any]] = []
    try:
        with view, post(endpoint, "/tare/build", document, body=context.body, headers=headers) as answer:
            for event in answer.documents():
                last = event
                view.show(event)
                if event["event"] == "explained":
                    explained.append(event)
    except KeyboardInterrupt:
        # Leaving the block has closed the connection: the engine ends the steps and undoes their mounts.
        if mode == "json":
            view.show({"event": "error", "message": "build canceled", "code": "canceled"})
        else:
            print("ERROR: build canceled", file=sys.stderr, flush=True)
        raise
    succeeded = last.get("event") == "result"
    if mode == "json":
        return last
    if succeeded and not document["plan_only"]:
        _conclude(last, document, explained, view.names, quiet=mode == "quiet")
    if view.findings and mode != "quiet":
        from tare.cli.build_checks import show_findings

        show_findings(view.findings)
    if not succeeded:
        from tare.cli.build_plain import show_failure

        show_failure(last, view.names)
    return last


def _conclude(
    result: dict[str, Any],
    document: dict[str, Any],
    explained: list[dict[str, Any]],
    names: dict[str, str],
    *,
    quiet: bool,
) -> None:
    """Why steps ran, where that was asked for, and the weigh-in."""
    if document["why"]:
        from tare.cli.build_reasons import show_why

        show_why(explained, names)
    if not quiet:
        from tare.cli.build_weighing import show_weighing

        show_weighing(result, document["tags"])


def _ask(endpoint: Endpoint, document: dict[str, Any], context: Context, call: Call) -> bool:
    """Have the Dockerfile looked at and print the answer; returns whether the command has succeeded."""
    if call.method != "check":
        document["describe"] = call.method
    last: dict[str, Any] = {}
    with post(endpoint, "/tare/build", document, body=context.body) as answer:
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
