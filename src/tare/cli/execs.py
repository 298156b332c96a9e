"""``exec``."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from tare.cli.environment import read_env
from tare.cli.relay import relay
from tare.cli.session import Session, pass_session
from tare.cli.terminal import Signals, raw_mode, require_terminal, window_size
from tare.cli.terminal import detach_keys as keys_that_detach
from tare.client.client import Client
from tare.model.detach_keys import Detached


@click.command("exec", context_settings={"allow_interspersed_args": False}, short_help="Run a command in a container.")
@click.option("-d", "--detach", is_flag=True, help="Run it in the background.")
@click.option("--detach-keys", default="", help="Override the key sequence for detaching a container.")
@click.option("-e", "--env", multiple=True, help="Environment variable: NAME=VALUE, or NAME to pass one on.")
@click.option("--env-file", multiple=True, help="Read environment variables from this file.")
@click.option("-i", "--interactive", is_flag=True, help="Keep standard input open.")
@click.option("--privileged", is_flag=True, help="Give it all rights of the host.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal.")
@click.option("-u", "--user", default="", help="User: name or UID, with :group or :GID.")
@click.option("-w", "--workdir", default="", help="Working directory.")
@click.argument("container")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@pass_session
def exec_command(
    session: Session, /, *, container: str, detach: bool, detach_keys: str, interactive: bool, tty: bool, **given: Any
) -> None:
    """Run a command in a running container."""
    if not detach:
        require_terminal(tty_wanted=tty, stdin_wanted=interactive)
    document = {
        "Cmd": list(given["command"]),
        "AttachStdin": interactive and not detach,
        "AttachStdout": not detach,
        "AttachStderr": not detach,
        "Tty": tty,
        "DetachKeys": detach_keys if detach else keys_that_detach(detach_keys),
        "Env": read_env(given["env"], given["env_file"]),
        "Privileged": given["privileged"],
        "User": given["user"],
        "WorkingDir": given["workdir"],
    }
    sys.exit(session.run(lambda client: _exec(client, container, document, detach=detach)))


async def _exec(client: Client, container: str, document: dict[str, Any], *, detach: bool) -> int:
    execs = client.execs
    begun = time.time()
    size = window_size() if document["Tty"] else None
    identifier = await execs.create(container, {**document, "ConsoleSize": list(size) if size else None})
    if detach:
        await execs.start_detached(identifier)
        return 0
    tty = document["Tty"]
    keys = document["DetachKeys"] if tty else None
    with Signals() as signals:
        asked = {"Tty": tty, "ConsoleSize": list(size) if size else None}
        async with await execs.start(identifier, asked) as attached:
            if tty:
                signals.on_resize(lambda height, width: execs.resize(identifier, height, width))
            try:
                with raw_mode(wanted=tty and document["AttachStdin"]):
                    await relay(attached, tty=tty, stdin=document["AttachStdin"], detach_keys=keys)
            except Detached:
                print("read escape sequence", file=sys.stderr)
                return 0
    return await execs.exit_code(identifier, since=begun)
