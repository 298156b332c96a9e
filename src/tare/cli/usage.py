"""``stats``: what containers use, once or as it changes."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import click

from tare.cli.session import Session, pass_session, tell
from tare.cli.tables import listing, write
from tare.cli.units import human_binary, human_size
from tare.client.client import Client
from tare.errors import NotFound, TareError

_TITLES = {
    "ID": "CONTAINER ID",
    "Container": "CONTAINER",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}
_COLUMNS = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
_CLEAR_SCREEN = "\033[2J\033[H"
_NOTHING = "--"

Row = dict[str, str]


@click.command(short_help="Show what containers use.")
@click.argument("containers", nargs=-1)
@click.option("-a", "--all", "everything", is_flag=True, help="Show all containers, not only running ones.")
@click.option("--format", "template", default="", help="'table', 'json', 'table TEMPLATE' or a Go template.")
@click.option("--no-stream", is_flag=True, help="Show one result and end.")
@click.option("--no-trunc", is_flag=True, help="Don't shorten the output.")
@pass_session
def stats(
    session: Session, *, containers: tuple[str, ...], everything: bool, template: str, no_stream: bool, no_trunc: bool
) -> None:
    """Show the CPU time, memory, network and disk access of containers."""
    board = _Board(containers, everything=everything, template=template, full=no_trunc)
    session.run_on_loop(board.show_once if no_stream else board.show)


class _Board:
    """The rows of the containers that are watched, in the order in which they were named or listed."""

    def __init__(self, names: tuple[str, ...], *, everything: bool, template: str, full: bool) -> None:
        self._names = names
        self._everything = everything
        self._template = template
        self._full = full
        self._rows: dict[str, Row] = {}
        self._watchers: dict[str, asyncio.Task[None]] = {}

    async def show_once(self, client: Client) -> None:
        """One sample of each, all taken at the same time. A container that is not there fails the command."""

        async def first(name: str) -> Row | TareError:
            try:
                async for document in client.containers.stats(name):
                    return self._row(name, document)
            except TareError as error:
                return error
            return self._empty(name)

        names = await self._wanted(client)
        results = await asyncio.gather(*(first(name) for name in names))
        failures = [result for result in results if isinstance(result, TareError)]
        for failure in failures:
            tell(failure)
        if failures:
            sys.exit(1)
        write(self._text([result for result in results if not isinstance(result, TareError)]))

    async def _wanted(self, client: Client) -> list[str]:
        if self._names:
            return list(self._names)
        found = await client.containers.list(everything=self._everything)
        return [one["Id"] if self._full else one["Id"][:12] for one in found]

    def _text(self, rows: list[Row]) -> str:
        return listing(rows, _TITLES, _COLUMNS, self._template)

    async def show(self, client: Client) -> None:
        """Draw until the user ends it, or every named container is gone."""
        for name in await self._wanted(client):
            self._watch(client, name)
        events = None if self._names else asyncio.create_task(self._follow(client))
        try:
            while self._watchers or events is not None:
                sys.stdout.write(_CLEAR_SCREEN)
                write(self._text(list(self._rows.values())))
                await asyncio.sleep(0.5)
        finally:
            for task in (*self._watchers.values(), *([events] if events else [])):
                task.cancel()

    def _watch(self, client: Client, name: str) -> None:
        if name not in self._watchers:
            self._rows[name] = self._empty(name)
            self._watchers[name] = asyncio.create_task(self._keep(client, name))

    async def _keep(self, client: Client, name: str) -> None:
        try:
            async for document in client.containers.stats(name, stream=True):
                self._rows[name] = self._row(name, document)
        except NotFound as error:
            tell(error)
        except TareError:
            self._rows[name] = self._empty(name)
            return
        self._rows.pop(name, None)
        self._watchers.pop(name, None)

    async def _follow(self, client: Client) -> None:
        """Add containers that start (or are made, with ``--all``)."""
        wanted = ["create", "start"] if self._everything else ["start"]
        async for event in client.system.events(filters={"type": ["container"], "event": [*wanted, "die", "destroy"]}):
            name = event["Actor"]["ID"] if self._full else event["Actor"]["ID"][:12]
            if event["Action"] in wanted:
                self._watch(client, name)
            elif event["Action"] == "destroy" or not self._everything:
                self._rows.pop(name, None)
                if (task := self._watchers.pop(name, None)) is not None:
                    task.cancel()

    def _empty(self, name: str) -> Row:
        both = f"{_NOTHING} / {_NOTHING}"
        return {
            "ID": _NOTHING,
            "Container": name,
            "Name": _NOTHING,
            "CPUPerc": _NOTHING,
            "MemUsage": both,
            "MemPerc": _NOTHING,
            "NetIO": _NOTHING,
            "BlockIO": _NOTHING,
            "PIDs": _NOTHING,
        }

    def _row(self, name: str, document: dict[str, Any]) -> Row:
        used, limit = memory_use(document.get("memory_stats") or {})
        interfaces = (document.get("networks") or {}).values()
        received, sent = (sum(one[key] for one in interfaces) for key in ("rx_bytes", "tx_bytes"))
        read, written = disk_use(document)
        identifier = document["id"]
        return {
            "ID": identifier if self._full else identifier[:12],
            "Container": name,
            "Name": document["name"].removeprefix("/"),
            "CPUPerc": f"{cpu_percent(document):.2f}%",
            "MemUsage": f"{human_binary(used)} / {human_binary(limit)}",
            "MemPerc": f"{used / limit * 100 if limit else 0:.2f}%",
            "NetIO": f"{human_size(received)} / {human_size(sent)}",
            "BlockIO": f"{human_size(read)} / {human_size(written)}",
            "PIDs": str((document.get("pids_stats") or {}).get("current", 0)),
        }


def cpu_percent(document: dict[str, Any]) -> float:
    """CPU time since the sample before, in percent of one CPU."""
    now, before = document["cpu_stats"], document["precpu_stats"]
    used = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    system = now.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
    count = now.get("online_cpus", 0) or len(now["cpu_usage"].get("percpu_usage") or ())
    return float(used / system * count * 100) if system > 0 and used > 0 else 0.0


def memory_use(memory: dict[str, Any]) -> tuple[int, int]:
    """Bytes in use without the cache that the kernel would give back at once, and the limit."""
    stats, usage = memory.get("stats") or {}, memory.get("usage", 0)
    inactive = stats.get("total_inactive_file", stats.get("inactive_file", 0))
    return (usage - inactive if inactive < usage else usage), memory.get("limit", 0)


def disk_use(document: dict[str, Any]) -> tuple[int, int]:
    """Bytes read and written."""
    entries = (document.get("blkio_stats") or {}).get("io_service_bytes_recursive") or []
    found = {"r": 0, "w": 0}
    for entry in entries:
        kind = entry.get("op", "")[:1].lower()
        if kind in found:
            found[kind] += entry["value"]
    return found["r"], found["w"]
