"""Commands that change a container's state: stop, kill, restart, pause, unpause, rename, rm, wait."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Awaitable

import click

from tare.cli.session import Session, pass_session, tell
from tare.cli.unpersisted import notes_before_removal, tell_notes
from tare.client.client import Client
from tare.client.failures import is_answer
from tare.errors import NotFound, NotModified, TareError

_names = click.argument("containers", nargs=-1, required=True)
_signal = click.option("-s", "--signal", default="", help="Signal to send.")
_time = click.option("-t", "--time", "--timeout", "seconds", type=int, help="Seconds to wait before killing.")


async def _unchanged_is_fine(done: Awaitable[None], name: str) -> str:
    with contextlib.suppress(NotModified):
        await done
    return name


@click.command(short_help="Stop running containers.")
@_names
@_signal
@_time
@pass_session
def stop(session: Session, containers: tuple[str, ...], signal: str, seconds: int | None) -> None:
    """Stop running containers."""

    async def act(client: Client, name: str) -> str:
        return await _unchanged_is_fine(client.containers.stop(name, seconds=seconds, signal=signal), name)

    session.each(containers, act)


@click.command(short_help="Restart containers.")
@_names
@_signal
@_time
@pass_session
def restart(session: Session, containers: tuple[str, ...], signal: str, seconds: int | None) -> None:
    """Restart containers."""

    async def act(client: Client, name: str) -> str:
        await client.containers.restart(name, seconds=seconds, signal=signal)
        return name

    session.each(containers, act)


@click.command(short_help="Send a signal to containers (default SIGKILL).")
@_names
@_signal
@pass_session
def kill(session: Session, containers: tuple[str, ...], signal: str) -> None:
    """Send a signal to containers."""

    async def act(client: Client, name: str) -> str:
        await client.containers.kill(name, signal=signal)
        return name

    session.each(containers, act)


@click.command(short_help="Freeze all processes of containers.")
@_names
@pass_session
def pause(session: Session, containers: tuple[str, ...]) -> None:
    """Freeze all processes of containers."""

    async def act(client: Client, name: str) -> str:
        await client.containers.pause(name)
        return name

    session.each(containers, act)


@click.command(short_help="Let paused containers go on.")
@_names
@pass_session
def unpause(session: Session, containers: tuple[str, ...]) -> None:
    """Let paused containers go on."""

    async def act(client: Client, name: str) -> str:
        await client.containers.unpause(name)
        return name

    session.each(containers, act)


@click.command(short_help="Rename a container.")
@click.argument("container")
@click.argument("new_name")
@pass_session
def rename(session: Session, container: str, new_name: str) -> None:
    """Rename a container."""
    try:
        session.run(lambda client: client.containers.rename(container, new_name))
    except TareError as error:
        if not is_answer(error):
            raise
        tell(error)
        click.echo(f"Error: failed to rename container named {container}", err=True)
        sys.exit(1)


@click.command("rm", short_help="Remove containers.")
@_names
@click.option("-f", "--force", is_flag=True, help="Kill a running container first.")
@click.option("-v", "--volumes", is_flag=True, help="Remove its anonymous volumes.")
@click.option("-l", "--link", is_flag=True, help="Remove a link, OWNER/ALIAS, not a container.")
@pass_session
def remove(session: Session, containers: tuple[str, ...], force: bool, volumes: bool, link: bool) -> None:
    """Remove containers."""

    async def act(client: Client, name: str) -> str | None:
        notes = await notes_before_removal(client, name)
        try:
            await client.containers.remove(name, force=force, volumes=volumes, link=link)
        except NotFound:
            # As in Docker, "rm -f" of what is not there tells so and succeeds.
            if not force:
                raise
            click.echo(f"Error response from daemon: No such container: {name}", err=True)
            return None
        tell_notes(notes)
        return name

    session.each(containers, act)


@click.command(short_help="Wait until containers stop and print their exit codes.")
@_names
@pass_session
def wait(session: Session, containers: tuple[str, ...]) -> None:
    """Wait until containers stop, then print their exit codes."""

    async def act(client: Client, name: str) -> str:
        outcome = await (await client.containers.wait(name)).result()
        return str(outcome["StatusCode"])

    session.each(containers, act)
