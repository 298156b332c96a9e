"""``version``, ``info``, ``events``."""

from __future__ import annotations

import platform
import sys
import time
from typing import Any

import click

from tare import __version__
from tare.cli.filters import read_filters
from tare.cli.session import Session, pass_session, tell
from tare.cli.template import Template, to_json
from tare.cli.units import human_binary, local_time, parse_moment
from tare.client.client import Client
from tare.errors import TareError

API_VERSION = "1.51"
_format = click.option("-f", "--format", "template", default="", help="'json' or a Go template.")
_FIELD_WIDTH = 19


def _formatted(document: Any, template: str) -> str:
    return to_json(document) if template == "json" else Template(template).render(document)


@click.command(short_help="Show the versions of client and engine.")
@_format
@pass_session
def version(session: Session, template: str) -> None:
    """Show the versions of client and engine."""
    client_facts = {
        "Version": __version__,
        "ApiVersion": API_VERSION,
        "PythonVersion": platform.python_version(),
        "Os": sys.platform,
        "Arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
    }
    failure: TareError | None = None
    server: dict[str, Any] | None = None
    try:
        server = session.run(lambda client: client.system.version())
    except TareError as error:
        failure = error
    if template:
        print(_formatted({"Client": client_facts, "Server": server}, template))
    else:
        print("Client: Tare")
        _fields(
            " ",
            (
                ("Version", __version__),
                ("API version", API_VERSION),
                ("Python version", client_facts["PythonVersion"]),
                ("OS/Arch", f"{client_facts['Os']}/{client_facts['Arch']}"),
            ),
        )
        if server:
            _show_server(server)
    if failure:
        sys.stdout.flush()
        tell(failure)
        sys.exit(1)


def _fields(indent: str, fields: tuple[tuple[str, object], ...]) -> None:
    for name, value in fields:
        if value not in ("", None):
            print(f"{indent}{name + ':':<{_FIELD_WIDTH - len(indent) + 1}}{value}")


def _show_server(server: dict[str, Any]) -> None:
    print(f"\nServer: {server['Platform']['Name']}")
    for component in server["Components"]:
        print(f" {component['Name']}:")
        details = component.get("Details") or {}
        fields: list[tuple[str, object]] = [("Version", component["Version"])]
        if "ApiVersion" in details:
            fields.append(("API version", f"{details['ApiVersion']} (minimum version {details['MinAPIVersion']})"))
            fields.append(("OS/Arch", f"{details['Os']}/{details['Arch']}"))
            fields.append(("Kernel version", details.get("KernelVersion")))
        _fields("  ", tuple(fields))


@click.command(short_help="Show facts about the engine and its host.")
@_format
@pass_session
def info(session: Session, template: str) -> None:
    """Show facts about the engine and its host."""
    facts = session.run(lambda client: client.system.info())
    if template:
        print(_formatted(facts, template))
        return
    print(f"Client: Tare\n Version:    {__version__}\n\nServer:")
    print(f" Containers: {facts['Containers']}")
    for name in ("Running", "Paused", "Stopped"):
        print(f"  {name}: {facts[f'Containers{name}']}")
    lines = (
        ("Images", facts["Images"]),
        ("Server Version", facts["ServerVersion"]),
        ("Storage Driver", facts["Driver"]),
        ("Logging Driver", facts["LoggingDriver"]),
        ("Cgroup Driver", facts["CgroupDriver"]),
        ("Cgroup Version", facts["CgroupVersion"]),
        ("Runtimes", " ".join(sorted(facts["Runtimes"]))),
        ("Default Runtime", facts["DefaultRuntime"]),
        ("Kernel Version", facts["KernelVersion"]),
        ("Operating System", facts["OperatingSystem"]),
        ("OSType", facts["OSType"]),
        ("Architecture", facts["Architecture"]),
        ("CPUs", facts["NCPU"]),
        ("Total Memory", human_binary(facts["MemTotal"])),
        ("Name", facts["Name"]),
        ("Root Dir", facts["DockerRootDir"]),
        ("Live Restore Enabled", str(facts["LiveRestoreEnabled"]).lower()),
    )
    for name, value in lines:
        print(f" {name}: {value}")
    for warning in facts["Warnings"] or []:
        print(f"WARNING: {warning}", file=sys.stderr)


@click.command(short_help="Show what happens in the engine.")
@click.option("-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE", help="Only those that match.")
@click.option("--format", "template", default="", help="'json' or a Go template.")
@click.option("--since", default="", help="Also what happened since then.")
@click.option("--until", default="", help="Stop there.")
@pass_session
def events(session: Session, filters: tuple[str, ...], template: str, since: str, until: str) -> None:
    """Show what happens in the engine, as it happens."""
    now = time.time()
    first, last = parse_moment(since, now), parse_moment(until, now)
    parsed = Template(template) if template not in ("", "json") else None

    async def work(client: Client) -> None:
        async for event in client.system.events(since=first, until=last, filters=read_filters(filters)):
            if parsed is not None:
                print(parsed.render(event), flush=True)
            else:
                print(to_json(event) if template == "json" else event_text(event), flush=True)

    session.run(work)


def event_text(event: dict[str, Any]) -> str:
    """An event as Docker prints it: ``<time> container start <id> (image=…, name=…)``."""
    seconds, nanos = divmod(int(event["timeNano"]), 1_000_000_000)
    date, clock, zone, *_ = local_time(seconds).split(" ")
    stamp = f"{date}T{clock}.{nanos:09d}{zone[:3]}:{zone[3:]}"
    actor = event["Actor"]
    attributes = ", ".join(f"{key}={value}" for key, value in sorted((actor["Attributes"] or {}).items()))
    return f"{stamp} {event['Type']} {event['Action']} {actor['ID']}" + (f" ({attributes})" if attributes else "")
