"""Build each tier fat and lean, and compare what came out."""

from __future__ import annotations

import json
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


@dataclass(frozen=True)
class Weight:
    """What `tare weigh` says about an image; sizes in bytes."""

    size: int
    files: int
    compressed: int
    shells: tuple[str, ...]
    package_managers: tuple[str, ...]
    setuid: tuple[str, ...]


def fat(tier: str) -> str:
    """The name of a tier's fat image."""
    return f"{PREFIX}/{tier}:fat"


def lean(tier: str) -> str:
    """The name of a tier's lean image."""
    return f"{PREFIX}/{tier}:lean"


@dataclass(frozen=True)
class _Build:
    name: str
    context: Path
    dockerfile: str
    tag: str


def build_all(command: CommandLine, view: View, sources: Path) -> None:
    """Build all images; tiers at the same time.

    Within a tier fat comes first: the first steps of the lean Dockerfile are the same and come from the cache then.
    """
    queues = [
        [
            _Build(f"{tier} (fat)", sources / tier, "Dockerfile.fat", fat(tier)),
            _Build(f"{tier} (lean)", sources / tier, "Dockerfile", lean(tier)),
        ]
        for tier in TIERS
    ]
    queues.append([_Build("payment", sources / "payment", "Dockerfile", lean("payment"))])
    with ThreadPoolExecutor(max_workers=len(queues)) as pool:
        futures = [pool.submit(_build_in_turn, command, view, queue) for queue in queues]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            command.interrupt()
            raise


def weigh_all(command: CommandLine, view: View) -> None:
    """Print the table of sizes; fails if a lean image is heavier than it may be."""
    pairs = {tier: (weigh(command, fat(tier)), weigh(command, lean(tier))) for tier in TIERS}
    view.console.print(_table(pairs))
    heavy = [
        f"{lean(tier)} has {_megabytes(pair[1].size)}, at most {_megabytes(LIMIT_EACH[tier])} are allowed"
        for tier, pair in pairs.items()
        if pair[1].size > LIMIT_EACH[tier]
    ]
    together = sum(pair[1].size for pair in pairs.values())
    if together > LIMIT_TOGETHER:
        heavy.append(f"the lean images have {_megabytes(together)} together, at most {_megabytes(LIMIT_TOGETHER)}")
    if heavy:
        raise DemoError("; ".join(heavy))


def weigh(command: CommandLine, image: str) -> Weight:
    """Ask the engine what an image weighs."""
    text = command.run("weigh", image, "--json")
    try:
        answer = json.loads(text)
        return Weight(
            size=answer["size"],
            files=answer["files"],
            compressed=answer["compressed"],
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


def _table(pairs: dict[str, tuple[Weight, Weight]]) -> Table:
    table = Table(title="What the images weigh", title_justify="left")
    table.add_column("image")
    for heading in ("size", "ratio", "files", "transfer", "shells", "package\nmanagers", "setuid\nfiles"):
        table.add_column(heading, justify="right")
    for tier, (before, after) in pairs.items():
        _add_rows(table, tier, [before], [after])
    _add_rows(table, "together", [pair[0] for pair in pairs.values()], [pair[1] for pair in pairs.values()])
    return table


def _add_rows(table: Table, name: str, before: list[Weight], after: list[Weight]) -> None:
    ratio = sum(weight.size for weight in before) / max(1, sum(weight.size for weight in after))
    table.add_row(f"{name} fat", *_cells(before, ""))
    table.add_row(f"{name} lean", *_cells(after, f"1 : {ratio:.1f}"), end_section=True)


def _cells(weights: list[Weight], ratio: str) -> list[str]:
    return [
        _megabytes(sum(weight.size for weight in weights)),
        ratio,
        f"{sum(weight.files for weight in weights):,}",
        _megabytes(sum(weight.compressed for weight in weights)),
        f"{sum(len(weight.shells) for weight in weights):,}",
        f"{sum(len(weight.package_managers) for weight in weights):,}",
        f"{sum(len(weight.setuid) for weight in weights):,}",
    ]


def _megabytes(size: int) -> str:
    return f"{size / MEGABYTE:,.0f} MB"
