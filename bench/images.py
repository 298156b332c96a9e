#!/usr/bin/env python3
"""Images moved by two engines side by side: load, save, push, pull, rm, and the first run of what has just come.

    bench/images.py tare=unix:///run/tare-bench/tare.sock docker=unix:///run/tare-reference-docker/docker.sock

Two images, generated and the same on every machine: one layer of 500 MB in 40,000 files, and twelve layers of 20 MB in
2,000 files. One `docker` command line is the client of both engines, rounds alternate, the tables show medians. Each
engine has registries of its own (Debian's docker-registry, on the loopback of its network); both pull what Docker has
pushed, and push to an empty one. Docker unpacks layers when they come, Tare when a container needs them first: the
rows *and its first run* have both.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from image_layers import Layer, write_archive, write_layer

PORTS = {"push": 21790, "pull": 21791}
REFERENCE_NETWORK = Path("/run/netns/tare-reference")  # where scripts/reference-docker.sh keeps Docker
PROGRAM = "int main(void) { return 0; }"
IMAGES = {
    "one layer, 500 MB, 40,000 files": [Layer(1, 40_000, 500_000_000)],
    "twelve layers, 240 MB, 24,000 files": [Layer(seed, 2_000, 20_000_000) for seed in range(11, 23)],
}
BUDGETS = {"load": 0.5, "pull": 0.5, "push": 0.8, "save": 0.8}


@dataclass(frozen=True)
class Engine:
    """An engine by its name in the table; ``network`` is the namespace that its registries live in."""

    name: str
    host: str
    network: Path | None
    client: str
    config: Path

    def __call__(self, *arguments: str) -> str:
        """Run the client and return its output; its failure ends the benchmark."""
        command = [self.client, "--host", self.host, *arguments]
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "DOCKER_CONFIG": str(self.config)}
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, check=False)
        if done.returncode:
            sys.exit(f"{self.name}: {' '.join(command)}: {done.stderr.decode(errors='replace').strip()[-2000:]}")
        return done.stdout.decode()

    def usage(self) -> int:
        """Bytes on disk of all that the engine keeps."""
        root = self("info", "--format", "{{.DockerRootDir}}").strip()
        # Files may go while they are counted, which du takes for an error.
        counted = subprocess.run(["du", "-sxB1", root], capture_output=True, text=True, check=False)
        return int(counted.stdout.split()[0])


@dataclass
class Registry:
    """A registry whose content can be replaced while it runs."""

    port: int
    content: Path
    names: set[str] = field(default_factory=set)

    def name(self, image: str) -> str:
        """What the engines call the image there."""
        return f"127.0.0.1:{self.port}/{image}"

    def clear(self) -> None:
        """Forget all images."""
        shutil.rmtree(self.content)
        self.content.mkdir()


@contextmanager
def serving(directory: Path, port: int, network: Path | None) -> Iterator[Registry]:
    """A docker-registry on the loopback of ``network``, ended with the block."""
    registry = Registry(port, directory / "content")
    registry.content.mkdir(parents=True)
    settings = directory / "config.yml"
    settings.write_text(
        f"version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\n"
        f"storage: {{filesystem: {{rootdirectory: {registry.content}}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    inside = [] if network is None else ["nsenter", f"--net={network}"]
    with subprocess.Popen(
        [*inside, "docker-registry", "serve", str(settings)],
        env={"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if b"listening on" in line:
                    break
            else:
                sys.exit(f"docker-registry on port {port} did not start")
            drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
            yield registry
        finally:
            process.terminate()
            process.wait()
    drain.wait()


def engines(given: list[str], config: Path) -> list[Engine]:
    """The two engines that were named, Docker last."""
    hosts = dict(item.partition("=")[::2] for item in given)
    if set(hosts) != {"tare", "docker"}:
        sys.exit("name both engines: tare=unix://… docker=unix://…")
    docker = Path(__file__).resolve().parent.parent / ".tools/reference-docker/root/usr/bin/docker"
    client = str(docker) if docker.exists() else shutil.which("docker")
    if client is None or shutil.which("docker-registry") is None:
        sys.exit("run scripts/reference-docker.sh start, and have Debian's docker-registry")
    network = REFERENCE_NETWORK if REFERENCE_NETWORK.exists() else None
    return [
        Engine("tare", hosts["tare"], None, client, config),
        Engine("docker", hosts["docker"], network, client, config),
    ]


def compiled(scratch: Path) -> bytes:
    """A static program that does nothing."""
    path = scratch / "true"
    subprocess.run(["gcc", "-static", "-O2", "-s", "-x", "c", "-o", path, "-"], input=PROGRAM.encode(), check=True)
    return path.read_bytes()


def make_archive(layers: list[Layer], name: str, scratch: Path) -> Path:
    """The image as a file for `docker load`."""
    program = compiled(scratch)
    written = [
        write_layer(layer, scratch / f"layer{number}.tar", program if number == 0 else b"")
        for number, layer in enumerate(layers)
    ]
    path = scratch / "image.tar"
    write_archive(written, name, path)
    for layer in written:
        layer.path.unlink()
    return path


class Comparison:
    """One image, moved by both engines."""

    def __init__(
        self, both: list[Engine], registries: dict[str, dict[str, Registry]], archive: Path, name: str
    ) -> None:
        self._both = both
        self._registries = registries
        self._archive = archive
        self._name = name
        self.times: dict[str, dict[str, list[float]]] = {}

    def run(self, rounds: int) -> None:
        """Measure everything ``rounds`` times; the engines have nothing of the image before and after."""
        self._fill()
        for number in range(rounds):
            for engine in self._both if number % 2 else self._both[::-1]:
                self._round(engine)

    def _fill(self) -> None:
        """What Docker has pushed into the registries that are pulled from."""
        docker = self._both[-1]
        source = self._registries["docker"]["pull"]
        name = source.name(self._name)
        docker("load", "--input", str(self._archive))
        docker("tag", self._name, name)
        docker("push", "--quiet", name)
        docker("rmi", self._name, name)
        target = self._registries["tare"]["pull"]
        target.clear()
        shutil.copytree(source.content, target.content, dirs_exist_ok=True)

    def _round(self, engine: Engine) -> None:
        push, pull = (self._registries[engine.name][kind] for kind in ("push", "pull"))
        pushed, pulled = push.name(self._name), pull.name(self._name)
        before = engine.usage()
        loaded = self._timed(engine, "load", "load", "--input", str(self._archive))
        ran = self._timed(engine, "", "run", "--rm", "--network", "none", self._name, "/true")
        self._note(engine, "load and its first run", loaded + ran)
        self._note(engine, "bytes on disk (MB)", (engine.usage() - before) / 1e6)
        saved = self._archive.with_name("saved.tar")
        self._timed(engine, "save", "save", "--output", str(saved), self._name)
        saved.unlink()
        push.clear()
        engine("tag", self._name, pushed)
        self._timed(engine, "push", "push", "--quiet", pushed)
        engine("rmi", pushed)
        self._timed(engine, "rm", "rmi", self._name)
        loaded = self._timed(engine, "pull", "pull", "--quiet", pulled)
        ran = self._timed(engine, "", "run", "--rm", "--network", "none", pulled, "/true")
        self._note(engine, "pull and its first run", loaded + ran)
        engine("rmi", pulled)

    def _timed(self, engine: Engine, row: str, *arguments: str) -> float:
        os.sync()
        before = time.perf_counter()
        engine(*arguments)
        taken = time.perf_counter() - before
        if row:
            self._note(engine, row, taken)
        return taken

    def _note(self, engine: Engine, row: str, value: float) -> None:
        self.times.setdefault(row, {}).setdefault(engine.name, []).append(value)


def table(title: str, times: dict[str, dict[str, list[float]]]) -> None:
    """Print medians and ratios."""
    print(f"{title:<42}{'tare':>9}{'docker':>9}{'ratio':>8}  budget")
    for row, taken in times.items():
        tare, docker = (statistics.median(taken[name]) for name in ("tare", "docker"))
        budget = f"≤ {BUDGETS[row]}" if row in BUDGETS else ""
        print(f"  {row:<40}{tare:>9.2f}{docker:>9.2f}{tare / docker:>8.2f}  {budget}", flush=True)


@contextmanager
def scratch_directory(place: str | None) -> Iterator[Path]:
    """Where archives and registries lie; removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="tare-bench-images-", dir=place))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", nargs=2, metavar="NAME=HOST", help="an engine's name (tare, docker) and socket")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each image (3)")
    parser.add_argument("--only", default="", help="images whose description contains this")
    parser.add_argument("--scratch", help="directory for archives and registries (the system's)")
    given = parser.parse_args()
    with scratch_directory(given.scratch) as scratch, ExitStack() as stack:
        (scratch / "client").mkdir()
        both = engines(given.engine, scratch / "client")
        registries = {
            engine.name: {
                kind: stack.enter_context(serving(scratch / f"{engine.name}-{kind}", port, engine.network))
                for kind, port in PORTS.items()
            }
            for engine in both
        }
        for number, (title, layers) in enumerate(IMAGES.items()):
            if given.only not in title:
                continue
            name = f"tare-bench/image{number}:1"
            archive = make_archive(layers, name, scratch)
            comparison = Comparison(both, registries, archive, name)
            comparison.run(given.rounds)
            table(title, comparison.times)


if __name__ == "__main__":
    main()
