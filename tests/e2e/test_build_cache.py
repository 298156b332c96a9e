"""The build cache as people see it: Docker's commands and library, Tare's own, collection in the background."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker as docker_py
import pytest

from build_order import assert_database_and_disk_agree
from engine_process import EngineProcess
from source_servers import Answer, source_server

pytestmark = [pytest.mark.root, pytest.mark.e2e]

TEXT = """\
FROM busybox AS tools
RUN mkdir /out && cat /bin/busybox > /out/tool
RUN --mount=type=cache,target=/c cp /bin/busybox /c/kept
FROM busybox
COPY --from=tools /out /app
RUN echo configured > /etc/app
"""
TITLE = ["ID", "RECLAIMABLE", "SIZE", "LAST ACCESSED"]


@pytest.fixture(scope="module")
def own(busybox_tar: bytes) -> Iterator[EngineProcess]:
    """An engine whose build cache is only these tests'."""
    engine = EngineProcess.make()
    engine.import_busybox(busybox_tar)
    yield engine
    engine.stop()


@pytest.fixture
def built(own: EngineProcess, tmp_path: Path) -> Iterator[Path]:
    """A context whose image ``app`` is built and nothing else."""
    own.tare("builder", "prune", "-a", "-f")
    own.tare("rmi", "-f", "app", check=False)
    (tmp_path / "Dockerfile").write_text(TEXT)
    own.tare("build", "-q", "-t", "app", str(tmp_path))
    yield tmp_path
    assert_database_and_disk_agree(own)


def table(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("   ") if cell.strip()] for line in text.splitlines()]


def records(own: EngineProcess, *options: str) -> list[dict[str, object]]:
    """The cache but for the hashes of files, which are kept when the files have settled."""
    lines = own.tare("builder", "du", "--format", "json", *options).stdout.splitlines()
    found: list[dict[str, object]] = [json.loads(line) for line in lines]
    return [record for record in found if record["Type"] != "source.local"]


def using_cache(own: EngineProcess, context: Path) -> int:
    """How many steps are cached; FROM included."""
    return own.tare("build", "--progress", "plain", str(context)).stderr.count(b" CACHED")


def test_docker_system_df(own: EngineProcess, built: Path) -> None:
    client = docker_py.DockerClient(base_url=own.host, timeout=60)
    try:
        usage = client.df()
    finally:
        client.close()
    found = {record["Description"]: record for record in usage["BuildCache"] if record["Type"] != "source.local"}
    assert set(found) == {
        "RUN mkdir /out && cat /bin/busybox > /out/tool", "RUN cp /bin/busybox /c/kept", "cache mount /c",
        "COPY /out /app", "RUN echo configured > /etc/app",
    }  # fmt: skip
    assert found["COPY /out /app"]["Shared"] and not found["cache mount /c"]["Shared"]
    assert found["RUN cp /bin/busybox /c/kept"]["Parents"] == [
        found["RUN mkdir /out && cat /bin/busybox > /out/tool"]["ID"]
    ]
    listed = subprocess.run(
        ["du", "-s", "-B1", *own.data_root.glob("cache/mounts/*")], capture_output=True, text=True, check=True
    )
    assert found["cache mount /c"]["Size"] == int(listed.stdout.split()[0])
    private = sum(record["Size"] for record in usage["BuildCache"] if not record["Shared"])
    assert usage["BuilderSize"] == private
    lines = table(own.text("system", "df"))
    assert lines[-1][:3] == ["Build Cache", str(len(usage["BuildCache"])), "0"]
    assert lines == table(own.tare("system", "df").stdout.decode().strip())
    verbose = own.text("system", "df", "-v")
    for record in found.values():
        assert f"{record['ID'][:12]}   {record['Type']}" in verbose


def test_docker_builder_prune(own: EngineProcess, built: Path) -> None:
    refused = own.docker("builder", "prune", stdin=b"n\n", check=False)
    assert b"WARNING! This will remove all dangling build cache." in refused.stdout + refused.stderr
    assert len(records(own)) == 5
    said = own.text("builder", "prune", "-f")
    assert said.startswith("Deleted build cache objects:\n")
    assert "Total reclaimed space: " in said
    assert {record["Description"] for record in records(own)} == {"COPY /out /app", "RUN echo configured > /etc/app"}
    own.docker("builder", "prune", "-f", "-a")
    assert records(own) == []
    assert own.tare("weigh", "app").returncode == 0, "images lose nothing"
    assert own.text("builder", "prune", "-f", "-a") == "Total reclaimed space: 0B"


def test_docker_py_prunes(own: EngineProcess, built: Path) -> None:
    client = docker_py.DockerClient(base_url=own.host, timeout=60)
    try:
        kept = client.api.prune_builds(keep_storage=1 << 40, all=True)
        assert (kept["CachesDeleted"], kept["SpaceReclaimed"]) == ([], 0)
        filtered = client.api.prune_builds(filters={"type": "exec.cachemount"})
        assert len(filtered["CachesDeleted"]) == 1
        assert not list(own.data_root.glob("cache/mounts/*"))
        assert client.api.prune_builds(filters={"until": "24h"})["CachesDeleted"] == []
        everything = client.api.prune_builds(all=True)
        assert len(everything["CachesDeleted"]) in (4, 5), "with or without hashes of files"
        assert everything["SpaceReclaimed"] > Path("/bin/busybox").stat().st_size
    finally:
        client.close()


def test_builder_du(own: EngineProcess, built: Path) -> None:
    lines = table(own.tare("builder", "du").stdout.decode())
    assert lines[0] == TITLE
    assert len(lines) - 1 - 4 in (5, 6), "with or without hashes of files"
    assert [line[0] for line in lines[-4:]] == ["Shared:", "Private:", "Reclaimable:", "Total:"]
    (mount,) = [record for record in records(own) if record["Type"] == "exec.cachemount"]
    assert f"{mount['ID']}*" in [line[0] for line in lines]
    text = own.tare("builder", "du", "--verbose").stdout.decode()
    (paragraph,) = [one for one in text.split("\n\n") if f"{mount['ID']}" in one]
    assert "Mutable:      true" in paragraph
    assert "Description:  cache mount /c" in paragraph
    assert "Usage count:  1" in paragraph
    assert "Parents:\n - " in text
    assert own.tare(
        "builder", "du", "--format", "{{.Type}} {{.Shared}}", "--filter", "type=exec.cachemount"
    ).stdout == (b"exec.cachemount false\n")
    assert len(records(own, "--filter", "shared")) == 1
    assert len(records(own, "--filter", "description~=^RUN")) == 3
    wrong = own.tare("builder", "du", "--filter", "colour=red", check=False)
    assert (wrong.returncode, b"invalid filter 'colour'" in wrong.stderr) == (1, True)
    both = own.tare("builder", "du", "--verbose", "--format", "json", check=False)
    assert (both.returncode, b"cannot be used together" in both.stderr) == (1, True)


def test_builder_prune(own: EngineProcess, built: Path) -> None:
    refused = own.tare("builder", "prune", stdin=b"n\n", check=False)
    assert refused.returncode != 0
    assert b"WARNING! This will remove all dangling build cache." in refused.stdout
    own.tare("builder", "prune", "--all", "--max-used-space", "1g", "--force")
    assert len(records(own)) == 5
    wrong = own.tare("builder", "prune", "-f", "--max-used-space", "much", check=False)
    assert (wrong.returncode, b"much" in wrong.stderr) == (1, True)
    own.tare("builder", "prune", "-f", "--filter", "id=" + str(records(own)[0]["ID"]))
    assert len(records(own)) == 4
    own.tare("builder", "prune", "-a", "-f", "--min-free-space", "1p", "--reserved-space", "1g")
    assert len(records(own)) == 4
    own.tare("builder", "prune", "-a", "-f", "--min-free-space", "1p")
    assert records(own) == []


def test_system_prune(own: EngineProcess, built: Path, busybox_tar: bytes) -> None:
    asked = own.tare("system", "prune", stdin=b"n\n", check=False).stdout.decode()
    assert "  - unused build cache\n" in asked
    said = own.tare("system", "prune", "-f").stdout.decode()
    assert said.count("Deleted build cache objects:\n") == 1
    assert len(records(own)) == 2
    own.docker("system", "prune", "-f", "-a")
    assert records(own) == []
    own.import_busybox(busybox_tar)


def test_a_step_that_runs_keeps_what_it_has(own: EngineProcess, built: Path) -> None:
    text = TEXT.replace("/c/kept\n", "/c/kept; echo be''gun; until [ -e /c/go ]; do sleep 0.02; done\n")
    (built / "Dockerfile").write_text(text)
    building = own.start_docker("build", "-t", "waiting", str(built))
    assert building.stdout is not None
    for line in building.stdout:
        if line == b"begun\n":
            break
    own.docker("builder", "prune", "-a", "-f")
    busy = {record["Description"] for record in records(own) if not record["Reclaimable"]}
    assert busy == {"RUN mkdir /out && cat /bin/busybox > /out/tool", "cache mount /c"}
    (content,) = own.data_root.glob("cache/mounts/*/data")
    (content / "go").touch()
    building.communicate(timeout=60)
    assert building.returncode == 0
    assert using_cache(own, built) == 6
    own.docker("rmi", "waiting")


def test_collection_in_the_background(busybox_tar: bytes, tmp_path: Path) -> None:
    config = tmp_path / "tare.toml"
    config.write_text('[build]\ncache_limit = "4MB"\n')
    engine = EngineProcess.make("--config", str(config))
    try:
        engine.import_busybox(busybox_tar)
        for number in range(4):
            (tmp_path / "Dockerfile").write_text(f"FROM busybox\nRUN cat /bin/busybox > /n; echo {number}\n")
            engine.tare("build", "-q", "--output", "type=cacheonly", str(tmp_path))
        events = engine.start_docker(
            "events", "--since", "1", "--filter", "type=builder", "--filter", "event=prune", "--format", "{{.Action}}"
        )
        assert events.stdout is not None
        while events.stdout.readline() == b"prune\n":
            found = records(engine)
            if len(found) == 1:
                break
        events.terminate()
        events.communicate(timeout=30)
        assert found[0]["Description"] == "RUN cat /bin/busybox > /n; echo 3", "what was used last stays"
        assert using_cache(engine, tmp_path) == 2
        assert_database_and_disk_agree(engine)
        config.write_text('[build]\ncache_limit = "1"\n')
        engine.restart(signal.SIGTERM)
        events = engine.start_docker("events", "--since", "1", "--filter", "event=prune", "--format", "{{.Action}}")
        assert events.stdout is not None and events.stdout.readline() == b"prune\n", "at the start, too"
        events.terminate()
        events.communicate(timeout=30)
        assert records(engine) == []
        assert_database_and_disk_agree(engine)
    finally:
        engine.stop()


def test_failed_steps_and_fetched_sources_are_records(own: EngineProcess, built: Path) -> None:
    with source_server(built) as server:
        server.files["/page"] = Answer(b"x" * 70_000)
        text = f"FROM busybox\nADD {server.url('/page')} /page\nRUN cp /page /kept; exit 3\n"
        (built / "Dockerfile").write_text(text)
        said = own.tare("build", str(built), check=False).stderr.decode()
    step = next(word for word in said.split() if word.startswith("step:"))
    sizes = {str(record["Description"]): record for record in records(own)}
    failed = sizes[f"failed step {step}: RUN cp /page /kept; exit 3"]
    assert failed["Reclaimable"] is True
    assert any(text.startswith("files and repositories that were fetched") for text in sizes)
    assert own.tare("debug", step, "cat", "/kept").stdout == b"x" * 70_000
    own.tare("builder", "prune", "-a", "-f")
    assert not any(text.startswith(("failed step", "files and repositories")) for text in map(str, descriptions(own)))
    assert own.tare("debug", step, "true", check=False).returncode != 0


def descriptions(own: EngineProcess) -> list[object]:
    return [record["Description"] for record in records(own)]
