"""Engines killed between any two steps, supervisors and containers killed, machines started again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from crash_points import CrashingEngine
from engine_state import assert_consistent, conmons, container_processes
from rebooting import other_boot, reboot, wait_gone

pytestmark = [pytest.mark.root, pytest.mark.e2e]

FIRST_TO_LAST = 60  # more steps than any operation has
STRIDE = int(os.environ.get("TARE_TEST_CRASH_STRIDE", "12"))
"""Every how many steps the engine is killed; 1 tries every step and takes minutes."""


@pytest.fixture(scope="module")
def own(busybox_tar: bytes) -> Iterator[CrashingEngine]:
    engine = CrashingEngine.make()
    assert isinstance(engine, CrashingEngine)
    engine.starts.mkdir()
    engine.import_busybox(busybox_tar)
    yield engine
    engine.stop()


@pytest.fixture(autouse=True)
def _nothing_left(own: CrashingEngine) -> Iterator[None]:
    yield
    own.plan.unlink(missing_ok=True)
    if own.process is not None and own.process.poll() is not None:
        own.begin_again()
    own.remove_containers()
    for path in own.starts.iterdir():
        path.unlink()


def crash_points(own: CrashingEngine) -> Iterator[int]:
    """The steps at which to crash; ends after the first that the operation does not have."""
    for step in range(1, FIRST_TO_LAST, STRIDE):
        own.crash_at(step)
        yield step
        if not own.crashed:
            return


def test_killed_while_a_container_is_made_and_started(own: CrashingEngine) -> None:
    for step in crash_points(own):
        own.run("crash", check=False)
        if own.has_crashed():
            own.begin_again()
        states = assert_consistent(own)
        assert states.get("crash", "created") in ("created", "running"), step
        assert own.started("crash") <= 1
        if "crash" in states:  # what is there is whole: it can be started, or runs
            own.docker("start", "crash")
            assert assert_consistent(own) == {"crash": "running"}
            own.docker("rm", "-f", "crash")
        (own.starts / "crash").unlink(missing_ok=True)


@pytest.mark.parametrize("policy", ["no", "unless-stopped"])
def test_a_stop_is_not_taken_back(own: CrashingEngine, policy: str) -> None:
    own.run("crash", "--restart", policy)
    for step in crash_points(own):
        own.docker("stop", "crash", check=False)
        if own.has_crashed():
            own.begin_again()
        expected = "running" if step == 1 else "exited"  # from the second step on it is stored, and brought to its end
        if expected == "exited":
            own.docker("wait", "crash")
        assert assert_consistent(own) == {"crash": expected}, step
        assert own.started("crash") == 1
        own.docker("rm", "-f", "crash")
        (own.starts / "crash").unlink()
        own.run("crash", "--restart", policy)


def test_killed_while_a_container_is_removed(own: CrashingEngine) -> None:
    own.run("crash")
    for _ in crash_points(own):
        own.docker("rm", "-f", "crash", check=False)
        if own.has_crashed():
            own.begin_again()
        states = assert_consistent(own)
        assert states.get("crash", "exited") in ("running", "exited")
        own.docker("rm", "-f", "crash", check=False)
        assert assert_consistent(own) == {}
        own.run("crash")


def test_killed_while_a_container_is_restarted_by_its_policy(own: CrashingEngine) -> None:
    own.run("crash", "--restart", "always")
    for step in crash_points(own):
        since = f"{time.time():.9f}"
        (pid,) = container_processes(own.state("crash", "{{.Id}}"))
        os.kill(pid, signal.SIGKILL)
        own.await_event("crash", "start", since)
        if own.has_crashed():
            own.begin_again()
        wait_running(own, "crash")
        assert assert_consistent(own) == {"crash": "running"}, step
        assert own.started("crash") in (2, 3), step  # a start that no row tells of is undone and made again
        assert int(own.state("crash", "{{.RestartCount}}")) >= 1
        own.docker("rm", "-f", "crash")  # each run has its back-off from the beginning
        (own.starts / "crash").unlink()
        own.run("crash", "--restart", "always")


def test_back_off_and_counter_outlive_the_engine(own: CrashingEngine) -> None:
    own.docker("run", "-d", "--name", "crash", "--restart", "on-failure:3", "busybox", "false")
    own.await_event("crash", "die")
    own.kill()
    own.start()
    assert own.docker("wait", "crash").stdout == b"1\n"
    assert own.state("crash", "{{.State.Status}} {{.RestartCount}}") == "exited 3"
    assert own.docker("start", "crash").returncode == 0
    own.docker("rm", "-f", "crash")


def wait_running(own: CrashingEngine, name: str, since: str = "1h") -> None:
    """Return when the container runs; a start of its policy's that is under way is waited for."""
    if own.state(name) != "running":
        own.await_event(name, "start", since)
    assert own.state(name) == "running"


def test_supervisor_killed_while_the_engine_is_there(own: CrashingEngine) -> None:
    own.run("plain")
    own.run("again", "--restart", "always")
    own.run("frozen")
    own.docker("pause", "frozen")
    since = ""
    for name in ("plain", "frozen", "again"):
        since = f"{time.time():.9f}"
        os.kill(int(conmon_of(own, name)), signal.SIGKILL)
        own.await_event(name, "die", since)
    assert own.state("plain", "{{.State.Status}} {{.State.ExitCode}}") == "exited 137"
    assert own.state("frozen", "{{.State.Status}} {{.State.ExitCode}}") == "exited 137"
    assert "conmon" in own.state("plain", "{{.State.Error}}")
    wait_running(own, "again", since)
    assert assert_consistent(own) == {"plain": "exited", "frozen": "exited", "again": "running"}
    assert own.started("again") == 2


def test_what_happens_while_there_is_no_engine(own: CrashingEngine) -> None:
    own.run("unseen")
    own.run("ended")
    own.run("brief", "--rm")
    own.run("frozen")
    own.docker("pause", "frozen")
    supervisor = int(conmon_of(own, "unseen"))
    pids = {name: int(own.state(name, "{{.State.Pid}}")) for name in ("ended", "brief")}
    own.kill()
    os.kill(supervisor, signal.SIGKILL)
    wait_gone(supervisor)
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid)
    own.start()
    assert assert_consistent(own) == {"unseen": "exited", "ended": "exited", "frozen": "paused"}
    assert own.state("unseen", "{{.State.ExitCode}}") == "137"
    assert own.state("ended", "{{.State.ExitCode}}{{.State.Error}}") == "137"
    own.docker("unpause", "frozen")
    assert own.text("exec", "frozen", "echo", "alive") == "alive"


def test_the_machine_is_started_again(own: CrashingEngine) -> None:
    own.run("always", "--restart", "always")
    own.run("stopped", "--restart", "unless-stopped")
    own.docker("stop", "stopped")
    own.run("plain")
    own.run("brief", "--rm")
    own.run("frozen", "--restart", "unless-stopped")
    own.docker("pause", "frozen")
    reboot(own)
    for name in ("always", "frozen"):
        wait_running(own, name)
    expected = {"always": "running", "frozen": "running", "stopped": "exited", "plain": "exited"}
    assert assert_consistent(own) == expected
    assert own.state("plain", "{{.State.ExitCode}}") == "255"
    assert own.state("always", "{{.RestartCount}}") == "0"
    assert [own.started(name) for name in ("always", "stopped", "plain", "frozen")] == [2, 1, 1, 2]


def test_process_ids_of_another_boot_are_not_looked_at(own: CrashingEngine) -> None:
    own.run("plain")
    supervisor = int(conmon_of(own, "plain"))
    own.kill()
    other_boot(own)
    own.start()
    assert own.state("plain", "{{.State.Status}} {{.State.ExitCode}}") == "exited 255"
    wait_gone(supervisor)
    assert assert_consistent(own) == {"plain": "exited"}


def conmon_of(own: CrashingEngine, name: str) -> str:
    identifier = own.state(name, "{{.Id}}")
    (found,) = [item.name for item in conmons(own) if identifier in item.detail]
    return found
