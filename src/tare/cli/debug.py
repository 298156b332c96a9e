"""``debug``: into the file system of a build step, and beside a container or image with tools of one's own."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import click

from tare.cli.relay import relay
from tare.cli.run import RUN_FAILED, failure_status
from tare.cli.session import Session, describe, pass_session
from tare.cli.tables import listing, shorten, write
from tare.cli.terminal import Signals, raw_mode, window_size
from tare.cli.units import ago, human_size
from tare.client.client import Client
from tare.client.debugging import Shell
from tare.client.failures import is_answer
from tare.errors import InvalidArgument, NotFound, TareError

ENDED = 255
"""The exit status when the shell was ended before it exited."""

_WIDTH = 50  # characters of an instruction in the listing
_TITLES = {
    "ID": "STEP",
    "CreatedSince": "FAILED",
    "Stage": "STAGE",
    "Instruction": "INSTRUCTION",
    "ExitCode": "EXIT",
    "Size": "SIZE",
}


_VALUED = (
    "-u", "--user", "--shell", "--format", "-c", "--command", "-e", "--env", "--image", "--cap-add", "--type",
)  # fmt: skip
_OF_STEPS = {"before": "--before", "remove": "--rm"}
_OF_TOOLS = {
    "image": "--image",
    "env": "--env",
    "write": "--write",
    "privileged": "--privileged",
    "cap_add": "--cap-add",
}


class _TargetFirst(click.Command):
    """Options may stand before TARGET or between TARGET and COMMAND; those of COMMAND are its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Bring TARGET behind the options."""
        target = _end_of_options(args, 0)
        end = _end_of_options(args, target + 1)
        rest = args[end + 1 :] if args[end : end + 1] == ["--"] else args[end:]
        return super().parse_args(ctx, [*args[:target], *args[target + 1 : end], *args[target : target + 1], *rest])


def _end_of_options(args: list[str], position: int) -> int:
    """The place of the first word from ``position`` on that is neither an option nor the value of one."""
    while position < len(args) and args[position].startswith("-") and args[position] != "--":
        position += 2 if args[position] in _VALUED else 1
    return min(position, len(args))


@click.command(
    "debug",
    cls=_TargetFirst,
    context_settings={"allow_interspersed_args": False},
    short_help="Open a shell beside a container or image, or in a build step.",
)
@click.option("-c", "--command", "script", default="", help="Commands for the shell, instead of an interactive one.")
@click.option("-u", "--user", default=None, help="User: name or UID, with :group or :GID (default: root, the step's).")
@click.option("--shell", default="", help="Shell to start (default: the tool image's, the step's, else /bin/sh).")
@click.option("--image", default="", help="Image that the tools come from (default: debug.image of the engine).")
@click.option("-e", "--env", multiple=True, help="Set an environment variable.")
@click.option("--write", is_flag=True, help="Let the target's files be changed below /target.")
@click.option("--privileged", is_flag=True, help="Give the tools all rights of the host.")
@click.option("--cap-add", multiple=True, help="Add a capability, such as NET_ADMIN.")
@click.option("--type", "kind", type=click.Choice(["container", "image", "step"]), default=None, help="What is named.")
@click.option("--before", is_flag=True, help="Show the file system that the step began with.")
@click.option("--ls", "list_them", is_flag=True, help="List the failed steps that are kept.")
@click.option("--rm", "remove", is_flag=True, help="Remove the step instead of entering it.")
@click.option("--format", "template", default="", help="Form of the list: table, json, or a template.")
@click.argument("target", required=False, default="")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@pass_session
def debug(session: Session, /, *, target: str, command: tuple[str, ...], **given: Any) -> None:
    """Open a shell, or run COMMAND, beside a container or image, or in a build step.

    TARGET is a container, an image, or a build step (step:<id>, or the digits that builds show). Beside a container or
    image the programs are those of a tool image and TARGET's files are below /target, read-only unless --write is
    given; a running container's processes and network are the shell's own. What is written elsewhere is thrown away at
    the end. Without TARGET the failed steps that are kept are listed.
    """
    _check(target, command, given)
    if given["remove"]:
        removed = session.run(lambda client: client.steps.remove(target))
        print(removed["id"])
        return
    if given["list_them"] or not target:
        steps = session.run(lambda client: client.steps.list())
        rows = [_row(document, time.time(), full=given["template"] == "json") for document in steps]
        write(listing(rows, _TITLES, list(_TITLES), given["template"]))
        return
    try:
        sys.exit(session.run(lambda client: _debug(client, target, command, given)))
    except TareError as error:
        print(f"tare: {describe(error)}", file=sys.stderr)
        sys.exit(_status(error))


async def _debug(client: Client, target: str, command: tuple[str, ...], given: dict[str, Any]) -> int:
    document = {"command": list(command), "script": given["script"], "shell": given["shell"]}
    kind = "step" if given["before"] else given["kind"] or ""
    found = {"type": "step", "name": target}
    if kind != "step" and not target.startswith("step:"):
        found = await _find(client, target, kind)
    if found["type"] != "step":
        return await _enter_beside(client, found, document, given)
    if unfit := [option for name, option in _OF_TOOLS.items() if given[name]]:
        raise InvalidArgument(f"{unfit[0]} is for containers and images: {found['name']} is a build step")
    return await _enter(client, found["name"], {**document, "user": given["user"], "before": given["before"]})


async def _find(client: Client, target: str, kind: str) -> dict[str, Any]:
    """What is meant; an image of ``tare.local`` that is not here is assembled."""
    try:
        return await client.debugging.find(target, kind)
    except NotFound:
        if not target.startswith("tare.local/") or kind not in ("", "image"):
            raise
    from tare.cli.pulling import pull_image

    await pull_image(client, target, to_stderr=True)
    return await client.debugging.find(target, kind)


async def _enter_beside(client: Client, found: dict[str, Any], document: dict[str, Any], given: dict[str, Any]) -> int:
    from tare.cli.environment import read_env

    image = given["image"] or found["tool_image"]
    await _have_tools(client, image)
    asked = {
        **document,
        "image": image,
        "user": given["user"] or "",
        "env": read_env(given["env"], ()),
        "write": given["write"],
        "privileged": given["privileged"],
        "cap_add": list(given["cap_add"]),
    }
    terminal = _has_terminal()
    if terminal and not asked["command"] and not asked["script"]:
        print(_banner_beside(found, image, write=given["write"]), file=sys.stderr, flush=True)

    def opened(rest: dict[str, Any]) -> Awaitable[Shell]:
        return client.debugging.open(found["id"], {**asked, **rest}, kind=found["type"])

    return await _run(client, opened, terminal=terminal)


async def _have_tools(client: Client, image: str) -> None:
    """Assemble a tool image of ``tare.local`` that is not here, and show how it goes."""
    if not image.startswith("tare.local/"):
        return
    try:
        await client.images.inspect(image)
    except NotFound:
        from tare.cli.pulling import pull_image

        await pull_image(client, image, quiet=not sys.stderr.isatty(), to_stderr=True)


def _banner_beside(found: dict[str, Any], image: str, *, write: bool) -> str:
    state = f", {found['state']}" if found["state"] else ""
    access = "writable" if write else "read-only, --write changes that"
    return "\n".join(
        (
            f"{found['type']} {found['name']}{state}: its files are below /target ({access})",
            f"the programs are those of {image}; what you write elsewhere is thrown away; Ctrl-D ends",
        )
    )


def _status(error: TareError) -> int:
    """As ``run`` has it: 126 and 127 for a command that cannot be executed, 125 for everything else."""
    if error.code == "no-shell":
        return 127
    return failure_status(error) if is_answer(error) else RUN_FAILED


def _check(step: str, command: tuple[str, ...], given: dict[str, Any]) -> None:
    entering = [name for name in ("before", "user", "shell") if given[name]]
    tools = [option for name, option in _OF_TOOLS.items() if given[name]]
    of_steps = [option for name, option in _OF_STEPS.items() if given[name]]
    if tools and of_steps:
        raise InvalidArgument(f"conflicting options: {tools[0]} and {of_steps[0]}")
    if tools and not step:
        raise InvalidArgument(f"{tools[0]} needs a container or image")
    if of_steps and given["kind"] not in (None, "step"):
        raise InvalidArgument(f"conflicting options: {of_steps[0]} and --type {given['kind']}")
    if given["script"] and (command or not step or given["remove"]):
        raise InvalidArgument("conflicting options: --command takes a target and nothing to execute")
    if given["list_them"] and (step or given["remove"] or entering):
        raise InvalidArgument("conflicting options: --ls takes no step", hint="tare debug --ls")
    if given["remove"] and not step:
        raise InvalidArgument("--rm needs a step", hint="tare debug --ls lists them")
    if given["remove"] and (command or entering):
        raise InvalidArgument("conflicting options: --rm takes a step and nothing else")
    if entering and not step:
        raise InvalidArgument(f"--{entering[0]} needs a step", hint="tare debug --ls lists them")
    if given["shell"] and command:
        raise InvalidArgument("conflicting options: --shell and a command", hint="give one of them")


def _row(step: dict[str, Any], now: float, *, full: bool) -> dict[str, str]:
    text = step["instruction"]
    return {
        "ID": step["id"],
        "CreatedSince": ago(step["created"], now),
        "Stage": step["stage"] or "-",
        "Instruction": text if full else shorten(text, _WIDTH),
        "ExitCode": str(step["exit_code"]),
        "Size": human_size(step["size"]),
    }


def _has_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


async def _enter(client: Client, step: str, document: dict[str, Any]) -> int:
    terminal = _has_terminal()
    if terminal and not document["command"] and not document["script"]:
        print(_banner(await client.steps.inspect(step), before=document["before"]), file=sys.stderr, flush=True)
    return await _run(client, lambda rest: client.steps.open(step, {**document, **rest}), terminal=terminal)


def _banner(step: dict[str, Any], *, before: bool) -> str:
    ended = f"after it failed with exit code {step['exit_code']}" if step["failed"] else "after it"
    place = f"{step['place']}, " if step["place"] else ""
    state = "before it ran" if before else ended
    lines = [f"{step['id']}: {shorten(step['instruction'], 100)}", f"{place}the file system {state}"]
    if step["withheld"]:
        lines.append(f"not here: {', '.join(step['withheld'])}")
    lines.append("what you write is thrown away; Ctrl-D ends" + ("" if before else ", --before shows the state before"))
    return "\n".join(lines)


async def _run(client: Client, opened: Callable[[dict[str, Any]], Awaitable[Shell]], *, terminal: bool) -> int:
    """Run a shell or command to its end; returns its exit code."""
    size = window_size() if terminal else None
    debugging = client.debugging
    with Signals() as signals:
        shell = await opened({"tty": terminal, "size": list(size) if size else None})
        async with shell:
            for note in (await debugging.inspect(shell.id))["notes"]:
                print(f"tare: {note}", file=sys.stderr, flush=True)
            if terminal:
                signals.on_resize(lambda height, width: debugging.resize(shell.id, height, width))
            # A terminal whose output goes elsewhere is not read: its keys belong to whoever reads the output.
            stdin = terminal or not sys.stdin.isatty()
            if not stdin:
                shell.close_stdin()
            with raw_mode(wanted=terminal):
                await relay(shell, tty=terminal, stdin=stdin, detach_keys=None)
            ended = await debugging.inspect(shell.id)
    if ended["reason"]:
        print(f"tare: {ended['reason']}; the session ends with it", file=sys.stderr)
    return ENDED if ended["exit_code"] is None else int(ended["exit_code"])


def look_into(session: Session, step: str) -> None:
    """Open a shell in a step that has just failed; what keeps it from opening is told."""
    document: dict[str, Any] = {"command": [], "script": "", "shell": "", "user": None, "before": False}
    print(file=sys.stderr)
    try:
        session.run(lambda client: _enter(client, step, document))
    except TareError as error:
        print(f"tare: {describe(error)}", file=sys.stderr)
