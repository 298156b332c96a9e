"""Build each tier in three ways, and compare what came out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from demo_parts.command import CommandLine, DemoError
from demo_parts.view import View

PREFIX = "three-tier"
TIERS = ("frontend", "backend", "database")
MEGABYTE = 1_000_000
LIMIT_TOGETHER = 500 * MEGABYTE
LIMIT_EACH = {"frontend": 200 * MEGABYTE, "backend": 200 * MEGABYTE, "database": 300 * MEGABYTE}

DOCKERFILES = {"fat": "Dockerfile.fat", "multi-stage": "Dockerfile.multi-stage", "distroless": "Dockerfile"}
"""The ways to write an image, and their files: all in one, tools left in a build stage, nothing but what runs."""


@dataclass(frozen=True)
class Weight:
    """What `tare weigh` says about an image; sizes in bytes."""

    size: int
    files: int
    compressed: int
    packages: int
    shells: tuple[str, ...]
    package_managers: tuple[str, ...]
    setuid: tuple[str, ...]


def image(tier: str, way: str = "distroless") -> str:
    """The name of a tier's image; the distroless ones are run."""
    return f"{PREFIX}/{tier}:{way}"


@dataclass(frozen=True)
class _Build:
    name: str
    context: Path
    dockerfile: str
    tag: str


def build_all(command: CommandLine, view: View, sources: Path, ways: Sequence[str]) -> None:
    """Build all images; tiers at the same time.

    Within a tier fat comes first: the first steps of the other Dockerfiles are the same and come from the cache then.
    """
    queues = [
        [_Build(f"{tier} ({way})", sources / tier, DOCKERFILES[way], image(tier, way)) for way in ways]
        for tier in TIERS
    ]
    queues.append([_Build("payment", sources / "payment", "Dockerfile", image("payment"))])
    with ThreadPoolExecutor(max_workers=len(queues)) as pool:
        futures = [pool.submit(_build_in_turn, command, view, queue) for queue in queues]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            command.interrupt()
            raise


def weigh_all(command: CommandLine, view: View, ways: Sequence[str]) -> None:
    """Print the table of sizes; fails if a distroless image is heavier than it may be."""
    weights = {tier: {way: weigh(command, image(tier, way)) for way in ways} for tier in TIERS}
    view.console.print(_table(weights))
    sizes = {tier: weights[tier]["distroless"].size for tier in TIERS}
    heavy = [
        f"{image(tier)} has {_megabytes(size)}, at most {_megabytes(LIMIT_EACH[tier])} are allowed"
        for tier, size in sizes.items()
        if size > LIMIT_EACH[tier]
    ]
    together = sum(sizes.values())
    if together > LIMIT_TOGETHER:
        heavy.append(f"the distroless images have {_megabytes(together)}, at most {_megabytes(LIMIT_TOGETHER)}")
    if heavy:
        raise DemoError("; ".join(heavy))


def prove_all(command: CommandLine, view: View) -> None:
    """Have the engine prove that the images that are run hold nothing beside what runs; fails with what it found."""
    tiers = (*TIERS, "payment")
    with view.job("audit") as job, ThreadPoolExecutor(max_workers=len(tiers)) as pool:
        audits = [pool.submit(command.run, "audit", "--distroless", image(tier), on_line=job.line) for tier in tiers]
        for audit in audits:
            audit.result()
    view.say("  no shell, package manager or set-user-ID file, no program outside the entrypoint's closure, by content")


def weigh(command: CommandLine, image: str) -> Weight:
    """Ask the engine what an image weighs."""
    text = command.run("weigh", image, "--json")
    try:
        answer = json.loads(text)
        return Weight(
            size=answer["size"],
            files=answer["files"],
            compressed=answer["compressed"],
            packages=answer["packages"],
            shells=tuple(answer["shells"]),
            package_managers=tuple(answer["package_managers"]),
            setuid=tuple(answer["setuid"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DemoError(f"`tare weigh {image} --json` gave an unexpected answer ({error!r}): {text[:500]}") from error


def _build_in_turn(command: CommandLine, view: View, builds: list[_Build]) -> None:
    for build in builds:
        dockerfile = build.context / build.dockerfile
        with view.job(build.name) as job:
            command.run("build", "-t", build.tag, "-f", str(dockerfile), str(build.context), on_line=job.line)


def _table(weights: dict[str, dict[str, Weight]]) -> Table:
    table = Table(title="What the images weigh", title_justify="left")
    table.add_column("image")
    for heading in ("size", "ratio", "files", "packages", "transfer", "shells", "package\nmanagers", "setuid\nfiles"):
        table.add_column(heading, justify="right")
    for tier, ways in weights.items():
        _add_rows(table, tier, {way: [weight] for way, weight in ways.items()})
    first = next(iter(weights.values()))
    _add_rows(table, "together", {way: [ways[way] for ways in weights.values()] for way in first})
    return table


def _add_rows(table: Table, name: str, ways: dict[str, list[Weight]]) -> None:
    """One row for each way; the ratio is to the first of them."""
    before = sum(weight.size for weight in next(iter(ways.values())))
    for way, weights in ways.items():
        after = sum(weight.size for weight in weights)
        ratio = "" if after == before else f"1 : {before / max(1, after):.1f}"
        table.add_row(f"{name} {way}", *_cells(weights, ratio), end_section=way == [*ways][-1])


def _cells(weights: list[Weight], ratio: str) -> list[str]:
    return [
        _megabytes(sum(weight.size for weight in weights)),
        ratio,
        f"{sum(weight.files for weight in weights):,}",
        f"{sum(weight.packages for weight in weights):,}",
        _megabytes(sum(weight.compressed for weight in weights)),
        f"{sum(len(weight.shells) for weight in weights):,}",
        f"{sum(len(weight.package_managers) for weight in weights):,}",
        f"{sum(len(weight.setuid) for weight in weights):,}",
    ]


def _megabytes(size: int) -> str:
    return f"{size / MEGABYTE:,.0f} MB"
