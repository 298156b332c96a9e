"""``update``."""

from __future__ import annotations

import sys
from decimal import Decimal, InvalidOperation
from typing import Any

import click

from tare.cli.session import Session, pass_session, tell
from tare.cli.units import parse_size
from tare.client.client import Client
from tare.errors import InvalidArgument, TareError


@click.command(short_help="Change the limits of containers.")
@click.argument("containers", nargs=-1, required=True)
@click.option("--blkio-weight", type=int, help="Weight of its disk access, 10 to 1000.")
@click.option("--cpu-period", type=int, help="Period of its CPU limit in microseconds.")
@click.option("--cpu-quota", type=int, help="CPU time in each period in microseconds.")
@click.option("--cpu-rt-period", type=int, help="Period of its real-time limit in microseconds.")
@click.option("--cpu-rt-runtime", type=int, help="Real-time CPU time in each period in microseconds.")
@click.option("-c", "--cpu-shares", type=int, help="Weight of its CPU time.")
@click.option("--cpus", help="Number of CPUs, such as 1.5.")
@click.option("--cpuset-cpus", help="CPUs that it may use: 0-3, 0,1.")
@click.option("--cpuset-mems", help="Memory nodes that it may use.")
@click.option("-m", "--memory", help="Memory limit, such as 512m.")
@click.option("--memory-reservation", help="Soft limit of memory.")
@click.option("--memory-swap", help="Limit of memory and swap together, -1 for unlimited swap.")
@click.option("--pids-limit", type=int, help="Limit of processes, -1 for unlimited.")
@click.option("--restart", help="no, on-failure[:N], always, unless-stopped, on-unhealthy[:N].")
@pass_session
def update(session: Session, /, containers: tuple[str, ...], **given: Any) -> None:
    """Change the limits and the restart policy of containers; running ones have them at once."""
    try:
        document = _document(given)
    except InvalidArgument as error:
        raise click.UsageError(str(error)) from error
    if not document:
        raise InvalidArgument("you must provide one or more flags when using this command")

    async def work(client: Client) -> bool:
        warnings: list[str] = []
        failures: list[TareError] = []
        for name in containers:
            try:
                warnings += await client.containers.update(name, document)
            except TareError as error:
                failures.append(error)
            else:
                print(name, flush=True)
        for warning in warnings:
            print(warning)
        for failure in failures:
            tell(failure)
        return bool(failures)

    if session.run(work):
        sys.exit(1)


def _document(given: dict[str, Any]) -> dict[str, Any]:
    """The API's ContainerUpdate of the options that were given. Raises InvalidArgument."""
    document: dict[str, Any] = {}
    numbers = {
        "blkio_weight": "BlkioWeight",
        "cpu_period": "CpuPeriod",
        "cpu_quota": "CpuQuota",
        "cpu_rt_period": "CpuRealtimePeriod",
        "cpu_rt_runtime": "CpuRealtimeRuntime",
        "cpu_shares": "CpuShares",
        "cpuset_cpus": "CpusetCpus",
        "cpuset_mems": "CpusetMems",
        "pids_limit": "PidsLimit",
    }
    document |= {field: given[name] for name, field in numbers.items() if given[name] is not None}
    for name, field in (
        ("memory", "Memory"),
        ("memory_reservation", "MemoryReservation"),
        ("memory_swap", "MemorySwap"),
    ):
        if (text := given[name]) is not None:
            unlimited = name == "memory_swap" and text == "-1"
            document[field] = -1 if unlimited else parse_size(text, f"--{name.replace('_', '-')}")
    if given["cpus"] is not None:
        document["NanoCpus"] = _nano_cpus(given["cpus"])
    if given["restart"] is not None:
        document["RestartPolicy"] = _policy(given["restart"])
    return document


def _nano_cpus(text: str) -> int:
    try:
        return int(Decimal(text) * 1_000_000_000)
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise InvalidArgument(
            f'invalid argument "{text}" for "--cpus" flag: failed to parse {text} as a rational number'
        ) from error


def _policy(text: str) -> dict[str, Any]:
    name, colon, count = text.partition(":")
    if colon and not count.isdecimal():
        raise InvalidArgument(
            "invalid restart policy format: maximum retry count must be an integer", hint="use on-failure:N"
        )
    return {"Name": name, "MaximumRetryCount": int(count or 0)}
