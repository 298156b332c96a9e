#!/usr/bin/env python3
"""Builds by two engines side by side: `tare build` and `docker build` (BuildKit), from the same base image.

    bench/build.py tare=unix:///run/tare-bench/tare.sock docker=unix:///run/tare-reference-docker/docker.sock

Rounds alternate between the engines, so that both see the same machine. The table shows medians in seconds, the ratio
to Docker, and the budget of that ratio. The base image comes from Tare (`tare.local/debian:12`), exported once and
imported by both.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BASE = "tare-bench/debian:1"
RESULT = "tare-bench/result:1"
FILES = 20_000
BYTES = 1_000_000_000
STAGES = 60

THREE_STAGES = f"""\
FROM {BASE} AS front
COPY front.txt /in
RUN i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; sha256sum /in > /front
FROM {BASE} AS back
COPY back.txt /in
RUN i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; sha256sum /in > /back
FROM {BASE}
COPY --from=front /front /srv/front
COPY --from=back /back /srv/back
RUN cat /srv/front /srv/back > /srv/all
CMD ["/bin/true"]
"""

FOUR_STAGES = f"""\
FROM {BASE} AS base
RUN echo base > /base
FROM base AS one
RUN sleep 0.5; echo one > /one
FROM base AS two
RUN sleep 0.5; echo two > /two
FROM base
COPY --from=one /one /one
COPY --from=two /two /two
COPY app.txt /app.txt
RUN sleep 0.5; cat /one /two /app.txt > /all
CMD ["/bin/true"]
"""

MANY_STAGES = "".join(f"FROM {BASE} AS s{number}\nRUN echo {number} > /out\n" for number in range(STAGES - 1)) + (
    f"FROM {BASE}\n" + "".join(f"COPY --from=s{number} /out /out{number}\n" for number in range(STAGES - 1))
)

WHOLE_CONTEXT = f"FROM {BASE}\nCOPY . /src/\n"


@dataclass(frozen=True)
class Engine:
    """A builder by its name in the table; ``command`` is what goes before the context."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    clear: tuple[str, ...]
    """Empties the build cache."""

    def build(self, context: Path, *options: str) -> None:
        """Build ``context``; a failure ends the benchmark."""
        self.run(*self.command, "--tag", RESULT, *options, str(context))

    def run(self, *command: str, stdin: Path | None = None) -> None:
        """Run a command with this engine's environment."""
        with (stdin or Path(os.devnull)).open("rb") as source:
            done = subprocess.run(command, stdin=source, capture_output=True, env=self.environment, check=False)
        if done.returncode:
            sys.exit(f"{self.name}: {' '.join(command)}: {done.stderr.decode(errors='replace').strip()[-2000:]}")


@dataclass(frozen=True)
class Case:
    """A measurement: ``prepare`` is done before each, outside the measured time.

    ``asleep`` seconds are spent sleeping by the build itself and left out of the times.
    """

    name: str
    budget: str
    context: Path
    prepare: Callable[[Engine], None]
    rounds: int
    asleep: float = 0.0


def engines(given: list[str]) -> list[Engine]:
    """The two engines that were named, Docker last."""
    hosts = dict(item.partition("=")[::2] for item in given)
    if set(hosts) != {"tare", "docker"}:
        sys.exit("name both engines: tare=unix://… docker=unix://…")
    checkout = Path(__file__).resolve().parent.parent
    tare = str(Path(sys.executable).with_name("tare"))
    root = checkout / ".tools" / "reference-docker" / "root"
    docker = str(root / "usr/bin/docker")
    if not Path(docker).exists():
        sys.exit("no reference Docker: run scripts/reference-docker.sh start")
    plain = {name: value for name, value in os.environ.items() if name not in ("TARE_HOST", "SOURCE_DATE_EPOCH")}
    return [
        Engine(
            "tare",
            (tare, "--host", hosts["tare"], "build", "--progress", "plain"),
            plain,
            (tare, "--host", hosts["tare"], "builder", "prune", "--all", "--force"),
        ),
        Engine(
            "docker",
            (docker, "--host", hosts["docker"], "build", "--progress", "plain"),
            {**plain, "DOCKER_CONFIG": str(plugins(root)), "DOCKER_BUILDKIT": "1"},
            (docker, "--host", hosts["docker"], "builder", "prune", "--all", "--force"),
        ),
    ]


def plugins(root: Path) -> Path:
    """A configuration directory in which the reference's own command line finds its own buildx."""
    directory = root.parent / "client"
    (directory / "cli-plugins").mkdir(parents=True, exist_ok=True)
    link = directory / "cli-plugins" / "docker-buildx"
    link.unlink(missing_ok=True)
    link.symlink_to(root / "usr/libexec/docker/cli-plugins/docker-buildx")
    return directory


def share_base(both: list[Engine], scratch: Path) -> None:
    """The same root file system as an image in both engines."""
    (scratch / "base").mkdir()
    (scratch / "base" / "Dockerfile").write_text("FROM tare.local/debian:12\n")
    tar = scratch / "base.tar"
    tare, docker = both
    tare.run(*tare.command, "--output", f"type=tar,dest={tar}", str(scratch / "base"))
    for engine in (tare, docker):
        engine.run(*engine.command[:3], "import", "-", BASE, stdin=tar)
    tar.unlink()


def write(context: Path, dockerfile: str, **files: str) -> Path:
    """A small context."""
    context.mkdir()
    (context / "Dockerfile").write_text(dockerfile)
    for name, text in files.items():
        (context / f"{name}.txt").write_text(text)
    return context


def large_context(context: Path) -> Path:
    """20,000 files in 200 directories, 1 GB of bytes that do not compress."""
    context.mkdir()
    (context / "Dockerfile").write_text(WHOLE_CONTEXT)
    generator = random.Random(7)
    size = BYTES // FILES
    for number in range(FILES):
        directory = context / f"d{number % 200:03}"
        directory.mkdir(exist_ok=True)
        (directory / f"f{number:05}").write_bytes(generator.randbytes(size))
    return context


def cases(scratch: Path) -> Iterator[Case]:
    """All measurements, in the order of the table."""
    serial = iter(range(1_000_000))

    def clear(engine: Engine) -> None:
        engine.run(*engine.clear)

    def warm(context: Path) -> Callable[[Engine], None]:
        return lambda engine: engine.build(context)

    def change(context: Path, name: str) -> Callable[[Engine], None]:
        def prepare(engine: Engine) -> None:
            engine.build(context)
            (context / name).write_text(f"change {next(serial)} {time.time_ns()}\n")

        return prepare

    three = write(scratch / "three", THREE_STAGES, front="front\n", back="back\n")
    yield Case("cold, three stages", "≤ 0.8", three, clear, 7)
    four = write(scratch / "four", FOUR_STAGES, app="app\n")
    yield Case("fully cached, four stages", "≤ 0.4", four, warm(four), 15)
    yield Case("one file changed (beside 0.5 s of sleep)", "≤ 0.6", four, change(four, "app.txt"), 7, 0.5)
    many = write(scratch / "many", MANY_STAGES)
    yield Case(f"cold, {STAGES} stages", "", many, clear, 3)
    yield Case(f"fully cached, {STAGES} stages", "", many, warm(many), 7)
    large = large_context(scratch / "large")
    yield Case("1 GB in 20,000 files, cold", "≤ 0.4", large, clear, 3)
    yield Case("1 GB in 20,000 files, one changed", "≤ 0.15", large, change(large, "d007/f00007"), 3)
    shutil.rmtree(large)


def measure(both: list[Engine], case: Case, rounds: int) -> dict[str, float]:
    """Medians in seconds by engine, taken in turn."""
    times: dict[str, list[float]] = {engine.name: [] for engine in both}
    for number in range(rounds or case.rounds):
        for engine in both if number % 2 else both[::-1]:
            case.prepare(engine)
            before = time.perf_counter()
            engine.build(case.context)
            times[engine.name].append(time.perf_counter() - before - case.asleep)
    return {name: statistics.median(taken) for name, taken in times.items()}


@contextmanager
def scratch_directory(place: str | None) -> Iterator[Path]:
    """Where contexts lie; removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="tare-bench-build-", dir=place))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", nargs=2, metavar="NAME=HOST", help="an engine's name (tare, docker) and socket")
    parser.add_argument("--rounds", type=int, default=0, help="measurements of each case (3 to 15, by case)")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--scratch", help="directory for the contexts (the system's)")
    given = parser.parse_args()
    both = engines(given.engine)
    with scratch_directory(given.scratch) as scratch:
        share_base(both, scratch)
        print(f"{'':<42}{'tare':>9}{'docker':>9}{'ratio':>8}  budget")
        for case in cases(scratch):
            if given.only not in case.name:
                continue
            found = measure(both, case, given.rounds)
            ratio = found["tare"] / found["docker"]
            shown = f"{found['tare']:>8.2f}s{found['docker']:>8.2f}s{ratio:>8.2f}"
            print(f"{case.name:<42}{shown}  {case.budget}", flush=True)


if __name__ == "__main__":
    main()
