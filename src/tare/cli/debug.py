"""``debug``: into the file system of a build step."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from tare.cli.relay import relay
from tare.cli.run import RUN_FAILED, failure_status
from tare.cli.session import Session, describe, pass_session
from tare.cli.tables import listing, shorten, write
from tare.cli.terminal import Signals, raw_mode, window_size
from tare.cli.units import ago, human_size
from tare.client.client import Client
from tare.client.failures import is_answer
from tare.errors import InvalidArgument, TareError

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


_VALUED = ("-u", "--user", "--shell", "--format")


class _StepFirst(click.Command):
    """Options may stand before STEP or between STEP and COMMAND; those of COMMAND are its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Bring STEP behind the options."""
        step = _end_of_options(args, 0)
        end = _end_of_options(args, step + 1)
        rest = args[end + 1 :] if args[end : end + 1] == ["--"] else args[end:]
        return super().parse_args(ctx, [*args[:step], *args[step + 1 : end], *args[step : step + 1], *rest])


def _end_of_options(args: list[str], position: int) -> int:
    """The place of the first word from ``position`` on that is neither an option nor the value of one."""
    while position < len(args) and args[position].startswith("-") and args[position] != "--":
        position += 2 if args[position] in _VALUED else 1
    return min(position, len(args))


@click.command(
    "debug",
    cls=_StepFirst,
    context_settings={"allow_interspersed_args": False},
    short_help="Open a shell in a build step, such as one that failed.",
)
@click.option("--before", is_flag=True, help="Show the file system that the step began with.")
@click.option("-u", "--user", default=None, help="User: name or UID, with :group or :GID (default: the step's).")
@click.option("--shell", default="", help="Shell to start (default: the step's own, else /bin/sh).")
@click.option("--ls", "list_them", is_flag=True, help="List the failed steps that are kept.")
@click.option("--rm", "remove", is_flag=True, help="Remove the step instead of entering it.")
@click.option("--format", "template", default="", help="Form of the list: table, json, or a template.")
@click.argument("step", required=False, default="")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@pass_session
def debug(session: Session, /, *, step: str, command: tuple[str, ...], **given: Any) -> None:
    """Open a shell, or run COMMAND, in the file system of the build step STEP (step:<id>).

    STEP is a failed step, or a cached one by the digits that builds show for it. What is written there is thrown away
    at the end. Without STEP the failed steps that are kept are listed.
    """
    _check(step, command, given)
    if given["remove"]:
        removed = session.run(lambda client: client.steps.remove(step))
        print(removed["id"])
        return
    if given["list_them"] or not step:
        steps = session.run(lambda client: client.steps.list())
        rows = [_row(document, time.time(), full=given["template"] == "json") for document in steps]
        write(listing(rows, _TITLES, list(_TITLES), given["template"]))
        return
    document = {"command": list(command), "shell": given["shell"], "user": given["user"], "before": given["before"]}
    try:
        sys.exit(session.run(lambda client: _enter(client, step, document)))
    except TareError as error:
        print(f"tare: {describe(error)}", file=sys.stderr)
        sys.exit(_status(error))


def _status(error: TareError) -> int:
    """As ``run`` has it: 126 and 127 for a command that cannot be executed, 125 for everything else."""
    if error.code == "no-shell":
        return 127
    return failure_status(error) if is_answer(error) else RUN_FAILED


def _check(step: str, command: tuple[str, ...], given: dict[str, Any]) -> None:
    entering = [name for name in ("before", "user", "shell") if given[name]]
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


async def _enter(client: Client, step: str, document: dict[str, Any]) -> int:
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if terminal and not document["command"]:
        print(_banner(await client.steps.inspect(step), before=document["before"]), file=sys.stderr, flush=True)
    return await enter(client, step, document, terminal=terminal)


def _banner(step: dict[str, Any], *, before: bool) -> str:
    ended = f"after it failed with exit code {step['exit_code']}" if step["failed"] else "after it"
    place = f"{step['place']}, " if step["place"] else ""
    state = "before it ran" if before else ended
    lines = [f"{step['id']}: {shorten(step['instruction'], 100)}", f"{place}the file system {state}"]
    if step["withheld"]:
        lines.append(f"not here: {', '.join(step['withheld'])}")
    lines.append("what you write is thrown away; Ctrl-D ends" + ("" if before else ", --before shows the state before"))
    return "\n".join(lines)


async def enter(client: Client, step: str, document: dict[str, Any], *, terminal: bool) -> int:
    """Run a shell or command to its end; returns its exit code."""
    size = window_size() if terminal else None
    asked = {**document, "tty": terminal, "size": list(size) if size else None}
    with Signals() as signals:
        shell = await client.steps.open(step, asked)
        async with shell:
            if terminal:
                signals.on_resize(lambda height, width: client.steps.resize(shell.id, height, width))
            # A terminal whose output goes elsewhere is not read: its keys belong to whoever reads the output.
            stdin = terminal or not sys.stdin.isatty()
            if not stdin:
                shell.close_stdin()
            with raw_mode(wanted=terminal):
                await relay(shell, tty=terminal, stdin=stdin, detach_keys=None)
            code = await client.steps.exit_code(shell.id)
    return ENDED if code is None else code


def look_into(session: Session, step: str) -> None:
    """Open a shell in a step that has just failed; what keeps it from opening is told."""
    document: dict[str, Any] = {"command": [], "shell": "", "user": None, "before": False}
    print(file=sys.stderr)
    try:
        session.run(lambda client: _enter(client, step, document))
    except TareError as error:
        print(f"tare: {describe(error)}", file=sys.stderr)
