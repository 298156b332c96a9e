"""The demo's own parts: commands, judgement of the reachability matrix, the probe, the look for leftovers."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console

EXAMPLE = Path(__file__).parents[2] / "examples" / "three-tier"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))


def load(name: str) -> ModuleType:
    return __import__(f"demo_parts.{name}", fromlist=["*"])


def shell() -> Any:
    return load("command").CommandLine(["/bin/sh"])


def test_command_returns_output_and_shows_lines_that_say_something() -> None:
    seen: list[str] = []
    assert shell().run("-c", "echo one; echo; echo two >&2", on_line=seen.append) == "one\n\ntwo\n"
    assert seen == ["one", "two"]


def test_failing_command_carries_status_and_last_lines() -> None:
    with pytest.raises(load("command").CommandError, match="status 3") as caught:
        shell().run("-c", "seq 100; exit 3")
    assert caught.value.output.splitlines() == [str(number) for number in range(76, 101)]


def test_failing_command_is_no_error_when_not_checked() -> None:
    assert shell().run("-c", "echo gone; exit 1", check=False) == "gone\n"


def test_interrupted_command_line_starts_nothing_until_resumed() -> None:
    command = shell()
    command.interrupt()
    with pytest.raises(load("command").DemoError, match="interrupted"):
        command.run("-c", "true")
    command.resume()
    assert command.run("-c", "echo again") == "again\n"


def observations(reachable: bool) -> dict[str, dict[str, Any]]:
    """All four containers; the two networks reach each other when ``reachable``."""
    observation = load("reach").Observation
    names = load("application").CONTAINERS

    def sees(source: str, target: str) -> bool:
        return reachable or (source == "payment") == (target == "payment")

    return {a: {b: observation(connected=sees(a, b), resolved=sees(a, b)) for b in names} for a in names}


def test_isolated_networks_are_as_expected() -> None:
    assert load("application")._surprises(observations(reachable=False)) == []


def test_every_leak_is_named() -> None:
    wrong = load("application")._surprises(observations(reachable=True))
    assert len(wrong) == 12
    assert "backend reaches payment by address" in wrong
    assert "payment knows the name database" in wrong


def test_missing_connection_within_a_network_is_named() -> None:
    seen = observations(reachable=False)
    seen["backend"]["database"] = load("reach").Observation(connected=False, resolved=True)
    assert load("application")._surprises(seen) == ["backend cannot reach database by address"]


def test_probe_tells_listening_from_closed_ports() -> None:
    connects = load("reach")._connects
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert connects("127.0.0.1", port)
    assert not connects("127.0.0.1", port)


def test_preferred_port_is_taken_only_if_it_is_free() -> None:
    free_port = load("application").free_port
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        assert free_port(taken) != taken
    assert free_port(taken) == taken


def test_weight_is_read_from_json() -> None:
    answer = {
        "size": 5, "files": 2, "compressed": 3, "packages": 4, "shells": ["/bin/sh"], "package_managers": [],
        "setuid": ["/bin/su"],
    }  # fmt: skip
    weight = load("images").weigh(FakeWeigh(json.dumps(answer)), "x")
    assert (weight.size, weight.files, weight.packages) == (5, 2, 4)
    assert (weight.shells, weight.setuid) == (("/bin/sh",), ("/bin/su",))


@pytest.mark.parametrize("text", ["", "not json", "[]", '{"size": 1}'])
def test_unexpected_weight_is_an_error_that_shows_the_answer(text: str) -> None:
    with pytest.raises(load("command").DemoError, match="unexpected answer"):
        load("images").weigh(FakeWeigh(text), "x")


class FakeWeigh:
    """A command line whose `weigh` answers with a given text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def run(self, *arguments: str) -> str:
        assert arguments == ("weigh", "x", "--json")
        return self._text


@pytest.mark.parametrize(("name", "found"), [("tared", True), ("sleep", False)])
def test_leftovers_are_the_engines_programs_only(tmp_path: Path, name: str, found: bool) -> None:
    root = str(tmp_path / "data")
    script = tmp_path / name
    script.write_text("import sys\nprint(flush=True)\nsys.stdin.read()\n")
    arguments = [sys.executable, str(script), root]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it runs: before that its command line may be empty still
        expected = [f"{process.pid} {sys.executable} {script}"] if found else []
        assert load("engine")._processes((root,)) == expected
        process.communicate()


def test_view_prints_every_step_and_failed_jobs() -> None:
    out = io.StringIO()
    view = load("view").View(Console(file=out, width=100))
    with pytest.raises(ValueError, match="broken"), view.step("1  Build"), view.job("backend [fat]"):
        raise ValueError("broken")
    assert "1  Build" in out.getvalue()
    assert "backend [fat]      failed in" in out.getvalue()


def test_ordinary_user_is_told_to_use_root(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["demo.py"])
    assert __import__("demo").main() == 1
    assert "sudo make demo" in capsys.readouterr().out
