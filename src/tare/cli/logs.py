"""``logs``."""

from __future__ import annotations

import time

import click

from tare.cli.session import Session, pass_session
from tare.cli.terminal import write_out
from tare.cli.units import parse_moment
from tare.client.client import Client


@click.command(short_help="Show the output of a container.")
@click.option("-f", "--follow", is_flag=True, help="Follow the output.")
@click.option("-t", "--timestamps", is_flag=True, help="Show when each line came.")
@click.option("--details", is_flag=True, help="Show the labels, variables and tag that the log options choose.")
@click.option("-n", "--tail", default="all", help="Number of lines from the end.")
@click.option("--since", default="", help="Only what came since then: 2026-01-02T13:23:37Z, or 42m.")
@click.option("--until", default="", help="Only what came before.")
@click.argument("container")
@pass_session
def logs(
    session: Session,
    *,
    follow: bool,
    timestamps: bool,
    details: bool,
    tail: str,
    since: str,
    until: str,
    container: str,
) -> None:
    """Show the output of a container."""
    now = time.time()
    first, last = parse_moment(since, now), parse_moment(until, now)

    async def work(client: Client) -> None:
        found = await client.containers.inspect(container)
        pieces = client.containers.logs(
            found["Id"],
            tty=found["Config"]["Tty"],
            follow=follow,
            tail=tail,
            since=first,
            until=last,
            timestamps=timestamps,
            details=details,
        )
        async for stream, data in pieces:
            write_out(stream, data)

    session.run(work)
