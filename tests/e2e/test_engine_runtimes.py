"""What the configuration gives containers: runtimes by name and a pool of ids.

Runtimes are configured, probed, listed, and each container stays with its own, also over a crash.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine_process import EngineProcess

pytestmark = [pytest.mark.root, pytest.mark.e2e]


@pytest.fixture(scope="module")
def chosen(busybox_tar: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """An engine with a second runtime, a program that notes how it is called, and one that does not work."""
    place = tmp_path_factory.mktemp("runtimes")
    program = place / "noting"
    real = shutil.which("runc")
    assert real is not None, "runc is not installed: run `make setup`"
    program.write_text(f'#!/bin/sh\necho "$@" >> {place}/calls\nexec {real} "$@"\n')
    program.chmod(0o755)
    config = place / "tare.toml"
    config.write_text(
        f'[runtimes]\nnoting = "{program}"\nbroken = "/bin/false"\nabsent = "/no/such/program"\n'
        "[userns]\nfirst = 500000\ncount = 5100\n"
    )
    engine = EngineProcess.make("--config", str(config))
    engine.import_busybox(busybox_tar)
    yield engine
    engine.remove_containers()
    engine.stop()


def _calls(engine: EngineProcess) -> str:
    runtimes = json.loads(engine.text("info", "-f", "{{json .Runtimes}}"))
    return (Path(runtimes["noting"]["path"]).parent / "calls").read_text()


def test_a_container_stays_with_the_runtime_that_it_asked_for(chosen: EngineProcess) -> None:
    chosen.docker("run", "-d", "--runtime", "noting", "--name", "noted", "busybox", "sleep", "600")
    identifier = json.loads(chosen.text("inspect", "noted"))[0]["Id"]
    assert json.loads(chosen.text("inspect", "noted"))[0]["HostConfig"]["Runtime"] == "noting"
    assert f"create --bundle {chosen.run_root}/containers/{identifier}" in _calls(chosen)
    assert chosen.text("exec", "noted", "echo", "inside") == "inside"
    chosen.restart()
    assert chosen.text("exec", "noted", "echo", "again") == "again"
    chosen.docker("pause", "noted")
    chosen.docker("unpause", "noted")
    assert f"pause {identifier}" in _calls(chosen)
    chosen.docker("rm", "-f", "noted")
    assert f"delete --force {identifier}" in _calls(chosen)
    before = _calls(chosen)
    chosen.docker("run", "--rm", "busybox", "true")
    assert _calls(chosen) == before


def test_runtimes_are_listed_and_others_refused(chosen: EngineProcess) -> None:
    runtimes = json.loads(chosen.text("info", "-f", "{{json .Runtimes}}"))
    default = chosen.text("info", "-f", "{{.DefaultRuntime}}")
    assert set(runtimes) == {default, "noting"}
    for name, words in (
        ("broken", "the probe ended|does not work|failed"),
        ("absent", "/no/such/program: program not found"),
        ("unheard-of", "others are named in [runtimes]"),
    ):
        refused = chosen.tare("run", "--rm", "--runtime", name, "busybox", "true", check=False)
        text = refused.stderr.decode()
        assert refused.returncode == 125
        assert f"unknown or invalid runtime name: {name}" in text
        assert any(word in text for word in words.split("|")), text
    chosen.docker("run", "--rm", "--runtime", default, "busybox", "true")
    chosen.docker("run", "--rm", "--runtime", "io.containerd.runc.v2", "busybox", "true")


def test_a_pool_of_ids_is_given_out_until_it_is_empty(chosen: EngineProcess) -> None:
    chosen.root.chmod(0o711)
    for number, first in ((1, 500_000), (2, 502_000)):
        chosen.tare("run", "-d", "--name", f"own{number}", "--userns", "auto:size=2000", "busybox", "sleep", "600")
        pid = json.loads(chosen.text("inspect", f"own{number}"))[0]["State"]["Pid"]
        assert Path(f"/proc/{pid}/uid_map").read_text().split() == ["0", str(first), "2000"]
    refused = chosen.tare("create", "--userns", "auto:size=2000", "busybox", check=False)
    assert refused.returncode == 1
    assert "no 2000 ids in a row are free for --userns auto: the pool is 500000 to 505099" in refused.stderr.decode()
    assert len(chosen.text("ps", "-aq").split()) == 2
    chosen.tare("run", "--rm", "--runtime", "noting", "--userns", "auto:size=1024", "busybox", "true")
    chosen.restart()
    chosen.docker("rm", "-f", "own1")
    chosen.tare("run", "-d", "--name", "own3", "--userns", "auto:size=2000", "busybox", "sleep", "600")
    pid = json.loads(chosen.text("inspect", "own3"))[0]["State"]["Pid"]
    assert Path(f"/proc/{pid}/uid_map").read_text().split()[1] == "500000"
