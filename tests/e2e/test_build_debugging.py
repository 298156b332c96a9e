"""Into the file system of a failed build step, from other processes than the one that built."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine_process import EngineProcess, program_rootfs
from terminal import Terminal

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.timeout(120)]

HEAD = "FROM busybox\nWORKDIR /work\nENV MODE=strict\nRUN echo first > first\n"
BROKEN = HEAD + "RUN echo made > log; rm first; echo oops; exit 3\nRUN touch after\n"
WAIT_SECONDS = 30


@pytest.fixture(autouse=True)
def _nothing_left(own: EngineProcess) -> Iterator[None]:
    yield
    until(lambda: leftovers_of(own) == [])


def leftovers_of(engine: EngineProcess) -> list[str]:
    """What shells have made and what should be gone."""
    table = Path("/proc/self/mountinfo").read_text().splitlines()
    found = [line for line in table if str(engine.root) in line]
    for name in ("steps", "containers"):
        directory = engine.run_root / name
        found += [str(path) for path in directory.iterdir()] if directory.is_dir() else []
    work = (engine.data_root / "snapshots").glob("*/work")  # only writable snapshots have one
    return found + [str(path) for path in work]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < end, "this does not come true"
        time.sleep(0.02)


def fail(engine: EngineProcess, context: Path, text: str = BROKEN, *options: str) -> str:
    """Build what cannot be built; returns the step's reference."""
    (context / "Dockerfile").write_text(text)
    built = engine.tare("build", *options, str(context), check=False)
    assert built.returncode == 1, built.stderr
    found = re.findall(r"^look into the failed step with: tare debug (step:[0-9a-f]{8})$", built.stderr.decode(), re.M)
    assert len(found) == 1, built.stderr
    return str(found[0])


def shell(engine: EngineProcess, opened: list[Terminal], *arguments: str) -> Terminal:
    terminal = Terminal(engine.tare_command(*arguments), engine.environment())
    opened.append(terminal)
    return terminal


def output(engine: EngineProcess, *arguments: str) -> str:
    return engine.tare("debug", *arguments).stdout.decode()


def test_after_and_before_from_other_processes_and_after_a_crash(own: EngineProcess, tmp_path: Path) -> None:
    step = fail(own, tmp_path)
    assert output(own, step, "cat", "/work/log") == "made\n"
    own.restart()  # SIGKILL
    assert output(own, step, "sh", "-c", "cat log; ls; echo $MODE") == "made\nlog\nstrict\n"
    assert output(own, "--before", step, "ls") == "first\n"
    missing = own.tare("debug", "--before", step, "cat", "/work/log", check=False)
    assert (missing.returncode, b"No such file" in missing.stderr) == (1, True)


def test_the_kept_state_is_unchanged_by_who_was_in_it(own: EngineProcess, tmp_path: Path) -> None:
    step = fail(own, tmp_path)
    assert output(own, step, "sh", "-c", "echo new > log; echo x > more; rm -r /etc; cat log") == "new\n"
    assert output(own, step, "sh", "-c", "cat log; ls; ls /etc/passwd") == "made\nlog\n/etc/passwd\n"


def test_input_output_and_exit_code_are_the_commands(own: EngineProcess, tmp_path: Path) -> None:
    step = fail(own, tmp_path)
    data = os.urandom(1 << 20)
    assert own.tare("debug", step, "cat", stdin=data).stdout == data
    script = own.tare("debug", step, stdin=b"cat log; echo bad >&2; exit 7\n", check=False)
    assert (script.returncode, script.stdout, script.stderr) == (7, b"made\n", b"bad\n")
    assert own.tare("debug", step, "sh", "-c", "sh -c 'kill -9 $$'; exit $?", check=False).returncode == 137


def test_user_network_and_hosts_are_the_steps(own: EngineProcess, tmp_path: Path) -> None:
    text = "FROM busybox\nUSER guest\nRUN --network=none exit 1\n"
    step = fail(own, tmp_path, text, "--add-host", "db:10.0.0.1")
    script = "id -un; ls /sys/class/net; grep -w db /etc/hosts"
    assert output(own, step, "sh", "-c", script) == "guest\nlo\n10.0.0.1\tdb\n"
    assert output(own, "--user", "root", step, "id", "-un") == "root\n"
    unknown = own.tare("debug", "-u", "ghost", step, "true", check=False)
    assert (unknown.returncode, b"unable to find user ghost" in unknown.stderr) == (125, True)


def test_secrets_are_not_there_and_the_list_of_what_is_missing_is(
    own: EngineProcess, tmp_path: Path, terminals: list[Terminal]
) -> None:
    (tmp_path / "token").write_text("correct horse battery")
    text = "FROM busybox\nRUN --mount=type=secret,id=token --mount=type=secret,id=token,env=TOKEN,target=/t exit 1\n"
    step = fail(own, tmp_path, text, "--secret", f"id=token,src={tmp_path}/token")
    script = "env; ls /run/secrets /t 2>&1; grep -r correct /etc /run /tmp; true"
    shown = output(own, step, "sh", "-c", script)
    assert "correct horse battery" not in shown and "TOKEN" not in shown
    assert "/t: No such file" in shown and "/run/secrets: No such file" in shown
    found = subprocess.run(
        ["grep", "-rl", "correct horse battery", str(own.data_root)], capture_output=True, check=False
    )
    assert found.stdout == b""
    terminal = shell(own, terminals, "debug", step)
    terminal.until(b"not here: secret token, secret token\r\n")
    terminal.until(b"# ")
    terminal.send(b"exit\n")
    assert terminal.close() == 0


def test_cache_and_context_mounts_are_there_again(own: EngineProcess, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/main").write_text("source\n")
    mounts = "--mount=type=cache,target=/cache --mount=type=bind,source=src,target=/src --mount=type=tmpfs,target=/fast"
    step = fail(own, tmp_path, f"FROM busybox\nRUN {mounts} echo kept > /cache/f; exit 1\n")
    assert output(own, step, "sh", "-c", "cat /cache/f /src/main; mount | grep -c ' /fast '") == "kept\nsource\n1\n"


def test_after_the_fix_only_the_failed_step_and_later_ones_run(own: EngineProcess, tmp_path: Path) -> None:
    fail(own, tmp_path)
    (tmp_path / "Dockerfile").write_text(BROKEN.replace("exit 3", "exit 0"))
    lines = own.tare("build", str(tmp_path)).stderr.decode().splitlines()
    steps = {line.split()[0]: line.partition("] ")[2] for line in lines if re.match(r"#\d+ \[\d", line)}
    ran = [steps[line.split()[0]] for line in lines if re.match(r"#\d+ DONE", line) and line.split()[0] in steps]
    assert ran == ["RUN echo made > log; rm first; echo oops; exit 0", "RUN touch after"]


def test_an_interactive_shell(own: EngineProcess, tmp_path: Path, terminals: list[Terminal]) -> None:
    step = fail(own, tmp_path)
    terminal = shell(own, terminals, "debug", step)
    head = terminal.until(b"# ")
    assert b"Dockerfile:5, the file system after it failed with exit code 3\r\n" in head
    assert b"Ctrl-D ends" in head
    terminal.send(b"tty; stty size; cat log; echo 'mark''ed'\n")
    shown = terminal.until(b"marked\r\n")
    assert b"/dev/pts/0\r\n" in shown and b"31 97\r\n" in shown and b"made\r\n" in shown
    terminal.send(b"echo wait''ing; until stty size | grep -q '40 120'; do sleep 0.1; done; echo 're''sized'\n")
    terminal.until(b"waiting\r\n")
    terminal.resize(40, 120)
    terminal.until(b"resized\r\n")
    terminal.send(b"sh -c 'echo begin\"\"ning; exec sleep 1000'\n")  # its words come from the process to interrupt
    terminal.until(b"beginning\r\n")
    terminal.send(b"\x03")
    terminal.until(b"# ")
    terminal.send(b"(exit 6)\n")
    terminal.send(b"\x04")
    assert terminal.close() == 6


def test_build_with_debug_opens_the_shell_at_once(
    own: EngineProcess, tmp_path: Path, terminals: list[Terminal]
) -> None:
    (tmp_path / "Dockerfile").write_text(BROKEN)
    terminal = shell(own, terminals, "build", "--debug", str(tmp_path))
    terminal.until(b"exit code: 3")
    terminal.until(b"--before shows the state before\r\n")
    terminal.until(b"# ")
    terminal.send(b"cat log; exit 9\n")
    terminal.until(b"made\r\n")
    assert terminal.close() == 1  # the build's
    plain = own.tare("build", "--debug", str(tmp_path), check=False)
    assert (plain.returncode, b"tare debug step:" in plain.stderr) == (1, True)
    (tmp_path / "Dockerfile").write_text("FROM busybox\nCOPY missing /\n")
    other = own.tare("build", "--debug", str(tmp_path), check=False)
    assert (other.returncode, b"no step is kept" in other.stderr) == (1, True)


def test_a_client_that_is_killed_takes_its_shell_along(
    own: EngineProcess, tmp_path: Path, terminals: list[Terminal]
) -> None:
    step = fail(own, tmp_path)
    terminal = shell(own, terminals, "debug", step)
    terminal.until(b"# ")
    terminal.send(b"trap '' HUP TERM; echo begun''; while true; do sleep 1; done\n")
    terminal.until(b"begun\r\n")
    quiet = subprocess.Popen(
        own.tare_command("debug", step, "sh", "-c", "echo up; while true; do sleep 1; done"),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=own.environment(),
    )  # fmt: skip
    assert quiet.stdout is not None
    with quiet.stdout:
        assert quiet.stdout.readline() == b"up\n"
        assert len(list((own.run_root / "steps").iterdir())) == 2
        terminal.kill()
        quiet.kill()
        quiet.wait()
    until(lambda: leftovers_of(own) == [])
    assert output(own, step, "cat", "log") == "made\n"


def test_an_interrupted_command_ends_and_says_so(own: EngineProcess, tmp_path: Path) -> None:
    step = fail(own, tmp_path)
    running = subprocess.Popen(
        own.tare_command("debug", step, "sh", "-c", "echo up; exec sleep 1000"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=own.environment(),
    )  # fmt: skip
    with running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"up\n"
        running.send_signal(signal.SIGINT)
        assert running.wait(WAIT_SECONDS) == 130
    until(lambda: leftovers_of(own) == [])


def test_a_killed_engine_leaves_no_shell_when_it_comes_back(
    own: EngineProcess, tmp_path: Path, terminals: list[Terminal]
) -> None:
    step = fail(own, tmp_path)
    terminal = shell(own, terminals, "debug", step)
    terminal.until(b"# ")
    own.kill()
    assert terminal.close() != 0
    own.start()
    assert leftovers_of(own) == []
    assert output(own, step, "cat", "log") == "made\n"


def test_an_engine_that_is_stopped_ends_its_shells(
    busybox_tar: bytes, tmp_path: Path, terminals: list[Terminal]
) -> None:
    engine = EngineProcess.make()
    try:
        engine.import_busybox(busybox_tar)
        step = fail(engine, tmp_path)
        terminal = shell(engine, terminals, "debug", step)
        terminal.until(b"# ")
    finally:
        engine.stop()
    assert terminal.close() != 0
    assert str(engine.root) not in Path("/proc/self/mountinfo").read_text()


def test_list_and_remove(own: EngineProcess, tmp_path: Path) -> None:
    for line in output(own).splitlines()[1:]:
        output(own, "--rm", line.split()[0])
    assert output(own, "--ls").split() == ["STEP", "FAILED", "STAGE", "INSTRUCTION", "EXIT", "SIZE"]
    step = fail(own, tmp_path, "FROM busybox AS base\nRUN head -c 300000 /dev/zero > /big; exit 4\n")
    row = json.loads(output(own, "--format", "json"))
    assert (row["ID"], row["Stage"], row["ExitCode"]) == (step, "base", "4")
    assert row["Instruction"] == "RUN head -c 300000 /dev/zero > /big; exit 4"
    assert re.fullmatch(r"3\d\dkB", row["Size"]), row
    assert output(own, "--format", "{{.ID}} {{.ExitCode}}") == f"{step} 4\n"
    assert output(own, "--rm", step.removeprefix("step:")) == f"{step}\n"
    assert output(own, "--format", "json") == ""
    for arguments in (("--rm", step), (step,)):
        gone = own.tare("debug", *arguments, check=False)
        assert gone.returncode != 0
        assert f"no such step: {step} (tare debug --ls lists" in gone.stderr.decode()


def test_a_root_file_system_without_shell(own: EngineProcess, tmp_path: Path, probe_program: Path) -> None:
    own.docker("import", "-", "bare:latest", stdin=program_rootfs(probe_program, "probe"))
    step = fail(own, tmp_path, 'FROM bare\nRUN ["/probe", "exit", "4"]\n')
    refused = own.tare("debug", step, check=False)
    words = refused.stderr.decode()
    assert refused.returncode == 127, words
    assert "cannot start /bin/sh: the step's root file system has no such shell that runs" in words
    assert f"a command that it has: tare debug {step} COMMAND" in words
    assert own.tare("debug", step, "/probe", "exit", "8", check=False).returncode == 8


def test_commands_that_cannot_be_executed(own: EngineProcess, tmp_path: Path) -> None:
    step = fail(own, tmp_path)
    for command, code in (("nope", 127), ("/etc/passwd", 126)):
        assert own.tare("debug", step, command, check=False).returncode == code
    other = own.tare("debug", "--shell", "/bin/zsh", step, check=False)
    assert (other.returncode, b"cannot start /bin/zsh" in other.stderr) == (127, True)
    assert own.tare("debug", "--shell", "/bin/ash", step, stdin=b"exit 5\n", check=False).returncode == 5


def test_a_step_that_ended_well_by_the_digits_that_docker_shows(own: EngineProcess, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(BROKEN.replace("exit 3", "exit 0"))
    said = own.docker("build", "--no-cache", str(tmp_path)).stdout.decode()
    digits = re.findall(r"^ ---> ([0-9a-f]{12})$", said, re.M)
    assert output(own, digits[-1], "ls", "/work") == "after\nlog\n"
    assert output(own, "--before", digits[-1], "ls", "/work") == "log\n"
    assert output(own, digits[-3], "sh", "-c", "cat first; echo $MODE") == "first\nstrict\n"


def test_a_step_whose_command_cannot_be_executed_is_kept_too(own: EngineProcess, tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    (tmp_path / "tool").chmod(0o644)
    for command, code in (("/missing", 127), ("/tool", 126)):
        step = fail(own, tmp_path, f'FROM busybox\nCOPY tool /tool\nRUN ["{command}"]\n')
        assert output(own, "--format", "{{.ID}} {{.ExitCode}}").splitlines()[0] == f"{step} {code}"
        assert output(own, step, "stat", "-c", "%a", "/tool") == "644\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("web",), "no such container, image or step: web (tare ps -a"),
        (("--type", "step", "web"), "invalid step 'web' (write step:<id>"),
        (("step:",), "invalid step 'step:'"),
        (("step:a/b",), "invalid step 'step:a/b'"),
        (("--rm",), "--rm needs a step"),
        (("--before",), "--before needs a step"),
        (("--ls", "step:1"), "--ls takes no step"),
        (("--rm", "step:1", "ls"), "--rm takes a step and nothing else"),
        (("--shell", "/bin/sh", "step:1", "ls"), "--shell and a command"),
    ],
)
def test_what_makes_no_sense(own: EngineProcess, arguments: tuple[str, ...], words: str) -> None:
    refused = own.tare("debug", *arguments, check=False)
    assert refused.returncode != 0
    assert words in refused.stderr.decode()


def test_dockers_own_command_sees_what_it_always_saw(own: EngineProcess, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(BROKEN)
    built = own.docker("build", str(tmp_path), check=False)
    assert built.returncode == 3
    assert b"returned a non-zero code: 3" in built.stderr
    assert b"debug" not in built.stdout + built.stderr
    assert output(own).count("RUN echo made > log") == 1  # it is kept all the same
