"""``run``, ``create``, ``start``, ``attach``."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import click

from tare.cli.flags import FLAG_CODE
from tare.cli.options import BooleanValues, check_before_pull, container_options, create_request, with_usage
from tare.cli.relay import relay
from tare.cli.risk_notes import tell_host_network
from tare.cli.session import Session, describe, explain, pass_session
from tare.cli.terminal import Signals, raw_mode, require_terminal
from tare.cli.terminal import detach_keys as keys_that_detach
from tare.client.client import Client
from tare.client.failures import diagnosis_of, is_answer
from tare.errors import Conflict, ExecutableError, InvalidArgument, NotFound, NotModified, TareError
from tare.model.detach_keys import Detached

RUN_FAILED = 125
_CANNOT_EXECUTE = ("permission denied", "is a directory")
_NOT_FOUND = ("executable file not found", "no such file or directory")

_PLAIN = {"allow_interspersed_args": False}


@click.command(cls=BooleanValues, context_settings=_PLAIN, short_help="Create and run a container from an image.")
@click.option("-d", "--detach", is_flag=True, help="Run in the background and print the container's ID.")
@click.option("--sig-proxy/--no-sig-proxy", default=True, help="Pass signals on to the process.")
@click.option("--detach-keys", default="", help="Override the key sequence for detaching a container.")
@container_options
@click.argument("image")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@pass_session
def run(
    session: Session,
    /,
    *,
    image: str,
    command: tuple[str, ...],
    detach: bool,
    sig_proxy: bool,
    detach_keys: str,
    **given: Any,
) -> None:
    """Create and run a new container from an image."""
    if not detach:
        require_terminal(tty_wanted=given["tty"], stdin_wanted=given["interactive"])
    try:
        _check_run(given, detach=detach)
        given["detach_keys"] = detach_keys if detach else keys_that_detach(detach_keys)
        sys.exit(session.run(lambda client: _run(client, image, command, given, detach=detach, sig_proxy=sig_proxy)))
    except TareError as error:
        sys.exit(_run_failure(error))


def _check_run(given: dict[str, Any], *, detach: bool) -> None:
    if detach and given["attach"]:
        raise InvalidArgument("conflicting options: cannot specify both --attach and --detach")
    check_before_pull(given)


def _run_failure(error: TareError) -> int:
    """Tell it as Docker's ``run`` does and return the exit status: 126, 127, or 125 for what is the engine's."""
    _tell_with_help(error, "run")
    return failure_status(error) if is_answer(error) else RUN_FAILED


def _tell_with_help(error: TareError, command: str) -> None:
    text = describe(error)
    if error.code == FLAG_CODE or error.message.startswith('invalid argument "'):
        print(with_usage(text, command), file=sys.stderr)
    else:
        print(f"tare: {text}", file=sys.stderr)
        explain(error.diagnosis)
        print(f"\nRun 'tare {command} --help' for more information", file=sys.stderr)


def failure_status(error: TareError) -> int:
    """127 when the command was not found, 126 when it cannot be executed, else 125."""
    if isinstance(error, ExecutableError):
        return error.exit_code
    text = error.message.lower()
    if any(words in text for words in _NOT_FOUND):
        return 127
    return 126 if any(words in text for words in _CANNOT_EXECUTE) else RUN_FAILED


async def make_container(client: Client, image: str, document: dict[str, Any], given: dict[str, Any]) -> str:
    """Create the container, pulling its image when it is missing; returns its identifier."""
    from tare.cli.pulling import pull_image

    cidfile = Path(given["cidfile"]) if given["cidfile"] else None
    if cidfile and cidfile.exists():
        raise Conflict(
            f"container ID file found, make sure the other container isn't running or delete {cidfile}", code="cidfile"
        )
    platform, quiet = given["platform"], given["quiet"]
    if given["pull"] == "always":
        await pull_image(client, image, platform=platform, quiet=quiet, to_stderr=True)
    try:
        created = await client.containers.create(document, name=given["name"], platform=platform)
    except NotFound as error:
        if given["pull"] != "missing" or "no such image" not in error.message.lower():
            raise
        if not quiet:
            from tare.model import Reference

            print(f"Unable to find image '{Reference.parse(image).familiar()}' locally", file=sys.stderr, flush=True)
        await pull_image(client, image, platform=platform, quiet=quiet, to_stderr=True)
        created = await client.containers.create(document, name=given["name"], platform=platform)
    for warning in created["Warnings"] or []:
        print(f"WARNING: {warning}", file=sys.stderr)
    if cidfile:
        cidfile.write_text(created["Id"])
    return str(created["Id"])


async def _run(
    client: Client, image: str, command: tuple[str, ...], given: dict[str, Any], *, detach: bool, sig_proxy: bool
) -> int:
    document = create_request(image, command, given, detach=detach)
    tell_host_network(document["HostConfig"]["NetworkMode"])
    identifier = await make_container(client, image, document, given)
    if detach:
        await _start_or_remove(client, identifier, given)
        print(identifier)
        return 0
    return await _run_attached(
        client,
        identifier,
        given,
        streams=(document["AttachStdin"], document["AttachStdout"], document["AttachStderr"]),
        sig_proxy=sig_proxy,
    )


async def _start_or_remove(client: Client, identifier: str, given: dict[str, Any]) -> None:
    try:
        await client.containers.start(identifier)
    except TareError:
        if given["auto_remove"]:
            with contextlib.suppress(TareError):
                await client.containers.remove(identifier, force=True, volumes=True)
        raise


async def _run_attached(
    client: Client, identifier: str, given: dict[str, Any], *, streams: tuple[bool, bool, bool], sig_proxy: bool
) -> int:
    tty, keys, (stdin, stdout, stderr) = given["tty"], given["detach_keys"], streams
    containers = client.containers
    with Signals() as signals:
        connecting = containers.attach(identifier, stdin=stdin, stdout=stdout, stderr=stderr, detach_keys=keys)
        async with await connecting as attached:
            waiting = await containers.wait(identifier, "removed" if given["auto_remove"] else "next-exit")
            try:
                if sig_proxy and not tty:
                    signals.proxy(lambda name: containers.kill(identifier, signal=name))
                await _start_or_remove(client, identifier, given)
                if tty:
                    signals.on_resize(lambda height, width: containers.resize(identifier, height, width))
                with raw_mode(wanted=tty and stdin):
                    await relay(attached, tty=tty, stdin=stdin, detach_keys=keys if tty else None)
            except Detached:
                waiting.close()
                print("read escape sequence", file=sys.stderr)
                return 0
            except BaseException:
                waiting.close()
                raise
        return await _outcome(waiting)


async def _outcome(waiting: Any) -> int:
    outcome = await waiting.result()
    failure = (outcome.get("Error") or {}).get("Message")
    if failure:
        print(f"tare: Error response from daemon: {failure}", file=sys.stderr)
        return RUN_FAILED
    explain(diagnosis_of(outcome.get("Diagnosis")))
    return int(outcome["StatusCode"])


@click.command(cls=BooleanValues, context_settings=_PLAIN, short_help="Create a container.")
@container_options
@click.argument("image")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@pass_session
def create(session: Session, /, *, image: str, command: tuple[str, ...], **given: Any) -> None:
    """Create a new container; ``start`` runs it."""
    try:
        check_before_pull(given)
        document = create_request(image, command, given)
    except TareError as error:
        _tell_with_help(error, "create")
        sys.exit(RUN_FAILED)
    tell_host_network(document["HostConfig"]["NetworkMode"])
    print(session.run(lambda client: make_container(client, image, document, given)))


@click.command(short_help="Start stopped containers.")
@click.option("-a", "--attach", "attach_output", is_flag=True, help="Show its output and pass signals on.")
@click.option("-i", "--interactive", is_flag=True, help="Pass standard input on.")
@click.option("--detach-keys", default="", help="Override the key sequence for detaching a container.")
@click.option("--sig-proxy/--no-sig-proxy", default=True, help="Pass signals on to the process.")
@click.argument("containers", nargs=-1, required=True)
@pass_session
def start(  # noqa: PLR0917 - click passes them by name
    session: Session,
    attach_output: bool,
    interactive: bool,
    detach_keys: str,
    sig_proxy: bool,
    containers: tuple[str, ...],
) -> None:
    """Start stopped containers."""
    if attach_output or interactive:
        if len(containers) > 1:
            raise InvalidArgument("you cannot start and attach multiple containers at once")
        keys = keys_that_detach(detach_keys)
        sys.exit(session.run(lambda client: _start_attached(client, containers[0], interactive, sig_proxy, keys)))

    async def act(client: Client, name: str) -> str:
        with contextlib.suppress(NotModified):
            await client.containers.start(name)
        return name

    try:
        session.each(containers, act)
    except SystemExit:
        print(f"Error: failed to start containers: {', '.join(containers)}", file=sys.stderr)
        raise


async def _start_attached(client: Client, name: str, interactive: bool, sig_proxy: bool, keys: str) -> int:
    found = await client.containers.inspect(name)
    config = found["Config"]
    given = {"tty": config["Tty"], "auto_remove": False, "detach_keys": keys}
    stdin = interactive and config["OpenStdin"]
    return await _run_attached(client, found["Id"], given, streams=(stdin, True, True), sig_proxy=sig_proxy)


@click.command(short_help="Attach to a running container.")
@click.option("--no-stdin", is_flag=True, help="Don't pass standard input on.")
@click.option("--detach-keys", default="", help="Override the key sequence for detaching a container.")
@click.option("--sig-proxy/--no-sig-proxy", default=True, help="Pass signals on to the process.")
@click.argument("container")
@pass_session
def attach(session: Session, container: str, no_stdin: bool, detach_keys: str, sig_proxy: bool) -> None:
    """Attach this terminal to a running container."""
    keys = keys_that_detach(detach_keys)
    sys.exit(session.run(lambda client: _attach(client, container, no_stdin, sig_proxy, keys)))


async def _attach(client: Client, name: str, no_stdin: bool, sig_proxy: bool, keys: str) -> int:
    found = await client.containers.inspect(name)
    if not found["State"]["Running"]:
        raise Conflict("cannot attach to a stopped container, start it first")
    if found["State"]["Paused"]:
        raise Conflict("cannot attach to a paused container, unpause it first")
    identifier, tty = found["Id"], found["Config"]["Tty"]
    stdin = found["Config"]["OpenStdin"] and not no_stdin
    require_terminal(tty_wanted=tty, stdin_wanted=stdin)
    containers = client.containers
    waiting = await containers.wait(identifier, "not-running")
    with Signals() as signals:
        async with await containers.attach(identifier, stdin=stdin, detach_keys=keys) as attached:
            if sig_proxy and not tty:
                signals.proxy(lambda name: containers.kill(identifier, signal=name))
            if tty:
                signals.on_resize(lambda height, width: containers.resize(identifier, height, width))
            try:
                with raw_mode(wanted=tty and stdin):
                    await relay(attached, tty=tty, stdin=stdin, detach_keys=keys if tty else None)
            except Detached:
                waiting.close()
                print("read escape sequence", file=sys.stderr)
                return 0
            except BaseException:
                waiting.close()
                raise
    return await _outcome(waiting)
