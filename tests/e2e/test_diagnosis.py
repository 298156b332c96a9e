"""Broken set-ups, made for real: each names its cause, and what is proposed works."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker as docker_py
import pytest
from docker.errors import APIError

from broken_files import broken_rootfs, glibc_rootfs
from engine_process import EngineProcess

pytestmark = [pytest.mark.root, pytest.mark.e2e]

MEGABYTE = 1 << 20
REFUSED = 1  # what runc ends with when the kernel refuses the file in the last moment
BROKEN, LIBC = "broken", "broken-glibc"


@dataclass(frozen=True)
class Case:
    """``options`` and ``command`` as docker-py has them; ``fixed`` are those that work when the fix is applied."""

    name: str
    command: list[str]
    code: str
    subject: str
    status: int = 127
    says: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    image: str = BROKEN
    fixed: tuple[list[str], dict[str, Any]] | None = None


def sh(text: str) -> tuple[list[str], dict[str, Any]]:
    return ["sh", "-c", text], {}


TO_UNIX = r"sed -i 's/\r$//' {0} && exec {0}"
CASES = [
    Case("misspelt", ["lss"], "command-not-found", "lss", says="ls", fixed=(["ls"], {})),
    Case("outside-path", ["tool"], "command-not-found", "tool", says="/opt/tool/bin/tool",
         fixed=(["/opt/tool/bin/tool"], {})),
    Case("one-string", ["ls -l"], "command-line-as-name", "ls -l", says='["ls", "-l"]', fixed=(["ls", "-l"], {})),
    Case("shell-line", ["echo $HOME"], "command-line-as-name", "echo $HOME", says='["sh", "-c", "echo $HOME"]',
         fixed=(["sh", "-c", "echo $HOME"], {})),
    Case("variable", ["A=1"], "command-line-as-name", "A=1", fixed=(["sh", "-c", "A=1"], {})),
    Case("builtin", ["export"], "shell-builtin", "export", fixed=(["sh", "-c", "export"], {})),
    Case("misspelt-path", ["/c/godo"], "file-not-found", "/c/godo", says="/c/good", fixed=(["/c/good"], {})),
    Case("wrong-directory", ["/usr/local/bin/sh"], "file-not-found", "/usr/local/bin/sh", says="/bin/sh",
         fixed=(["/bin/sh"], {})),
    Case("dangling", ["/c/dangling"], "dangling-link", "/c/dangling", says="/c/nowhere",
         fixed=sh("cp /c/good /c/nowhere && exec /c/dangling")),
    Case("loop", ["/c/loop"], "link-loop", "/c/loop", status=125, fixed=sh("ln -sf good /c/loop && exec /c/loop")),
    Case("hidden", ["/c/good"], "hidden-by-mount", "/c/good", says="volume diagnosis-hides",
         options={"volumes": ["diagnosis-hides:/c:nocopy"]}, fixed=(["/c/good"], {"volumes": ["diagnosis-hides:/d"]})),
    Case("hidden-in-path", ["sh"], "hidden-by-mount", "/bin/sh", options={"tmpfs": {"/bin": ""}},
         fixed=(["sh"], {"tmpfs": {"/d": ""}})),
    Case("directory", ["/c"], "is-directory", "/c", status=126),
    Case("no-x", ["/c/no-x"], "not-executable", "/c/no-x", status=126, says="chmod +x",
         fixed=sh("chmod +x /c/no-x && exec /c/no-x")),
    # execve(2) itself is done with the capability to override permissions, the interpreter has it no more
    Case("owner-only", ["/c/owner-only"], "not-executable", "/c/owner-only", status=2, options={"user": "1000"},
         fixed=(["/c/owner-only"], {"user": "0"})),
    Case("in-a-private-directory", ["/root/hidden"], "directory-not-accessible", "/root", status=2,
         options={"user": "1000"}, fixed=(["/root/hidden"], {"user": "0"})),
    Case("owner-only-by-rights", ["/c/owner-only"], "not-executable", "/c/owner-only", status=126,
         options={"user": "1000", "cap_drop": ["DAC_OVERRIDE"]}),
    Case("in-a-private-directory-by-rights", ["/root/hidden"], "directory-not-accessible", "/root", status=126,
         options={"user": "1000", "cap_drop": ["DAC_OVERRIDE"]}),
    Case("private-in-path", ["hidden"], "directory-not-accessible", "/root",
         options={"user": "1000", "cap_drop": ["ALL"], "environment": {"PATH": "/root:/bin"}},
         fixed=(["hidden"], {"user": "0", "environment": {"PATH": "/root:/bin"}})),
    Case("empty", ["/c/empty"], "empty-file", "/c/empty", status=REFUSED),
    Case("no-shebang", ["/c/no-shebang"], "no-shebang", "/c/no-shebang", status=REFUSED,
         fixed=(["sh", "/c/no-shebang"], {})),
    Case("crlf", ["/c/crlf"], "shebang-crlf", "/c/crlf", status=REFUSED, says="sed -i",
         fixed=sh(TO_UNIX.format("/c/crlf"))),
    Case("crlf-env", ["/c/crlf-env"], "shebang-crlf", "/c/crlf-env", fixed=sh(TO_UNIX.format("/c/crlf-env"))),
    Case("crlf-body", ["/c/crlf-body"], "crlf", "/c/crlf-body", status=2, fixed=sh(TO_UNIX.format("/c/crlf-body"))),
    Case("bom", ["/c/bom"], "shebang-bom", "/c/bom", status=REFUSED,
         fixed=sh(r"sed -i '1s/^\xef\xbb\xbf//' /c/bom && exec /c/bom")),
    Case("long-shebang", ["/c/long-shebang"], "shebang-too-long", "/c/long-shebang", status=REFUSED),
    Case("no-bash", ["/c/no-bash"], "interpreter-missing", "/bin/bash", status=REFUSED, says="#!/bin/sh",
         fixed=sh("sed -i '1s|.*|#!/bin/sh|' /c/no-bash && exec /c/no-bash")),
    Case("no-python", ["/c/no-python"], "env-program-missing", "python3",
         fixed=sh("cp /c/good /bin/python3 && exec /c/no-python")),
    Case("env-words", ["/c/env-words"], "env-arguments", "sh -e", says="env -S sh -e"),
    Case("missing-in-script", ["/c/calls-missing", "grpe"], "command-not-found", "grpe", says="grep",
         fixed=(["/c/calls-missing", "grep", "root", "/etc/passwd"], {})),
    Case("missing-in-shell", ["sh", "-c", "/c/no-bash"], "interpreter-missing", "/bin/bash"),
    Case("missing-under-init", ["/c/no-bash"], "interpreter-missing", "/bin/bash", options={"init": True}),
    Case("windows", ["/c/windows"], "foreign-format", "/c/windows", status=REFUSED),
    Case("noise", ["/c/noise"], "unknown-format", "/c/noise", status=REFUSED),
    Case("cut", ["/c/cut"], "damaged-program", "/c/cut", status=REFUSED),
    Case("half", ["/c/half"], "damaged-program", "/c/half", status=139),
    Case("object-file", ["/c/object.o"], "not-a-program", "/c/object.o", status=REFUSED),
    Case("arm64", ["/c/arm64"], "wrong-architecture", "/c/arm64", status=REFUSED, says="arm64"),
    Case("glibc-without-libc", ["/c/glibc"], "loader-missing", "/lib64/ld-linux-x86-64.so.2", status=REFUSED,
         says="no C library", fixed=(["/c/static"], {})),
    Case("musl-without-libc", ["/c/musl"], "loader-missing", "/lib/ld-musl-x86_64.so.1", status=REFUSED),
    Case("i386", ["/c/i386"], "loader-missing-32bit", "/lib/ld-linux.so.2", status=REFUSED, says="32-bit"),
    Case("library", ["/c/uses"], "library-missing", "libfoo.so.1", says="libfoo1", image=LIBC,
         fixed=sh("cp /c/good/libfoo.so.1 /usr/lib/x86_64-linux-gnu/ && exec /c/uses")),
    Case("library-from-shell", ["sh", "-c", "/c/uses; exit $?"], "library-missing", "libfoo.so.1", image=LIBC),
    Case("library-damaged", ["/c/damaged"], "library-unusable", "libfoo.so.1", image=LIBC,
         fixed=sh("cp /c/good/libfoo.so.1 /c/bad/ && exec /c/damaged")),
    Case("glibc-too-old", ["/c/future"], "symbol-version-missing", "GLIBC_2.99", status=1, says="GLIBC_2.36",
         image=LIBC, fixed=(["/c/hello"], {})),
    Case("library-too-old", ["/c/versioned"], "symbol-version-missing", "FOO_2.0", status=1, says="FOO_1.0",
         image=LIBC, fixed=sh("cp /c/good/libfoo.so.1 /c/old/ && exec /c/versioned")),
    Case("user", ["true"], "user-not-found", "gest", status=125, says="guest", options={"user": "gest"},
         fixed=(["true"], {"user": "guest"})),
    Case("group", ["true"], "group-not-found", "whel", status=125, says="wheel", options={"user": "root:whel"},
         fixed=(["true"], {"user": "root:wheel"})),
    Case("working-file", ["true"], "workdir-not-directory", "/etc/passwd", status=125,
         options={"working_dir": "/etc/passwd"}, fixed=(["true"], {"working_dir": "/etc"})),
    Case("working-below-file", ["true"], "workdir-not-directory", "/etc/passwd/x", status=125,
         options={"working_dir": "/etc/passwd/x"}),
    Case("file-over-directory", ["true"], "mount-kind-mismatch", "/etc", status=125,
         options={"volumes": ["/etc/passwd:/etc"]}, fixed=(["true"], {"volumes": ["/etc/passwd:/etc/passwd"]})),
    Case("device", ["true"], "device-missing", "/dev/nosuch", status=127, options={"devices": ["/dev/nosuch"]},
         fixed=(["true"], {"devices": ["/dev/null"]})),
    Case("sysctl", ["true"], "sysctl-unknown", "net.ipv4.nosuch", options={"sysctls": {"net.ipv4.nosuch": "1"}},
         fixed=(["true"], {})),
    Case("memory", ["sh", "-c", "x=$(head -c 30000000 /dev/zero | tr '\\0' a); echo ${#x}"], "out-of-memory",
         str(8 * MEGABYTE), status=137, says="8 MiB",
         options={"mem_limit": 8 * MEGABYTE, "memswap_limit": 8 * MEGABYTE}),
    Case("processes", ["sh", "-c", "ls | cat"], "pids-limit", "1", status=2, options={"pids_limit": 1},
         fixed=(["sh", "-c", "ls | cat"], {"pids_limit": 64})),
    Case("read-only", ["touch", "/etc/new"], "read-only-root", "/etc/new", status=1, says="--tmpfs /etc",
         options={"read_only": True}, fixed=(["touch", "/etc/new"], {"read_only": True, "tmpfs": {"/etc": ""}})),
    Case("capability", ["chown", "1:1", "/etc/passwd"], "capability-missing", "CAP_CHOWN", status=1,
         says="--cap-add CHOWN", options={"cap_drop": ["CHOWN"]}, fixed=(["chown", "1:1", "/etc/passwd"], {})),
    Case("full", ["dd", "if=/dev/zero", "of=/d/x", "bs=1M", "count=1"], "no-space", "", status=1,
         options={"tmpfs": {"/d": "size=64k"}}),
]  # fmt: skip


@pytest.fixture(scope="module", params=["runc", "crun"])
def engine(request: pytest.FixtureRequest) -> Iterator[EngineProcess]:
    """runc's words and exit statuses are those that Docker's clients know best; crun's must be the same."""
    running = EngineProcess.make("--runtime", request.param)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def images(engine: EngineProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """The engine with the broken images."""
    directory = tmp_path_factory.mktemp("broken")
    for name, rootfs in ((BROKEN, broken_rootfs(directory)), (LIBC, glibc_rootfs(directory))):
        engine.docker("import", "-c", "ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin", "-", f"{name}:latest", stdin=rootfs)
    yield engine
    engine.remove_containers()
    engine.docker("volume", "rm", "-f", "diagnosis-hides")
    engine.docker("rmi", BROKEN, LIBC)


@pytest.fixture(scope="module")
def api(images: EngineProcess) -> Iterator[docker_py.DockerClient]:
    connected = docker_py.DockerClient(base_url=images.host, timeout=60)
    yield connected
    connected.close()


def outcome(
    api: docker_py.DockerClient, image: str, command: list[str], options: dict[str, Any]
) -> tuple[int, str, dict[str, Any], str]:
    """Exit code (as ``docker run`` would give), error, State.Diagnosis and output of a container."""
    container = api.containers.create(image, entrypoint=command[:1], command=command[1:], **options)
    try:
        message = ""
        try:
            container.start()
            container.wait()
        except APIError as error:
            message = error.explanation
        container.reload()
        state = container.attrs["State"]
        status = _docker_status(message) if message else state["ExitCode"]
        return status, message, state.get("Diagnosis") or {}, container.logs().decode()
    finally:
        container.remove(force=True)


def _docker_status(message: str) -> int:
    """The exit status that ``docker run`` takes from an error (cli/command/container/run.go, toStatusError)."""
    if "executable file not found" in message or "no such file or directory" in message:
        return 127
    return 126 if "permission denied" in message or "is a directory" in message else 125


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_cause_is_named_and_the_fix_works(api: docker_py.DockerClient, case: Case) -> None:
    status, message, diagnosis, output = outcome(api, case.image, case.command, case.options)
    assert diagnosis, (message, output)
    assert (diagnosis["Code"], status) == (case.code, case.status), (diagnosis, message, output)
    if case.subject:
        assert diagnosis["Subject"] == case.subject, diagnosis
    assert case.says in f"{diagnosis['Cause']}; {diagnosis['Fix']}", diagnosis
    if case.fixed is not None:
        status, message, diagnosis, output = outcome(api, case.image, *case.fixed)
        assert (status, diagnosis) == (0, {}), (message, diagnosis, output)


@pytest.mark.parametrize(
    "command",
    [
        ["false"],
        ["sh", "-c", "exit 126"],
        ["sh", "-c", "exit 127"],
        ["sh", "-c", "exit 255"],
        ["grep", "nothing", "/etc/passwd"],
        ["cat", "/no/such/data"],
        ["sh", "-c", "echo name: not found; exit 1"],
        ["sh", "-c", "kill -9 $$"],
    ],
    ids=" ".join,
)
def test_ordinary_ends_have_no_cause(api: docker_py.DockerClient, command: list[str]) -> None:
    assert outcome(api, BROKEN, command, {})[2] == {}


def test_a_container_that_is_stopped_or_killed_has_no_cause(images: EngineProcess) -> None:
    images.docker(
        "run", "-d", "--name", "stopped", BROKEN, "sh", "-c", "trap 'exit 127' TERM; while :; do sleep 1; done"
    )
    images.docker("stop", "-t", "30", "stopped")
    assert _diagnosis(images, "stopped") is None


def test_the_next_start_forgets_the_cause(images: EngineProcess) -> None:
    script = "[ -e /once ] || { : > /once; nosuch; }"
    assert images.tare("run", "--name", "again", BROKEN, "sh", "-c", script, check=False).returncode == 127
    assert (_diagnosis(images, "again") or {})["Code"] == "command-not-found"
    images.tare("start", "-a", "again")
    assert _diagnosis(images, "again") is None


def test_a_port_names_its_process_and_its_container(images: EngineProcess) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        failed = images.docker("run", "--name", "port", "-p", f"{place}:80", BROKEN, "true", check=False)
        diagnosis = _diagnosis(images, "port") or {}
        assert (diagnosis["Code"], diagnosis["Subject"]) == ("port-in-use", place)
        assert f"(pid {os.getpid()})" in diagnosis["Cause"]
        assert diagnosis["Cause"] in failed.stderr.decode()
    images.docker("start", "-a", "port")
    images.docker("run", "-d", "--name", "holder", "-p", f"{place}:80", BROKEN, "sleep", "100")
    images.docker("start", "-a", "port", check=False)
    assert "container holder publishes it" in (_diagnosis(images, "port") or {})["Cause"]
    images.docker("rm", "-f", "holder")
    images.docker("start", "-a", "port")


def test_a_bind_source_that_has_gone(images: EngineProcess, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    images.docker("create", "--name", "gone", "-v", f"{source}:/d", BROKEN, "true")
    source.rmdir()
    images.docker("start", "-a", "gone", check=False)
    diagnosis = _diagnosis(images, "gone") or {}
    assert (diagnosis["Code"], diagnosis["Subject"]) == ("bind-source-missing", str(source))
    source.mkdir()
    images.docker("start", "-a", "gone")


def test_a_mount_point_that_cannot_be_made(images: EngineProcess, tmp_path: Path) -> None:
    run = ("-v", f"{tmp_path}:/d:ro", "-v", f"{tmp_path}:/d/inner", BROKEN, "true")
    images.docker("run", "--name", "point", *run, check=False)
    diagnosis = _diagnosis(images, "point") or {}
    assert (diagnosis["Code"], diagnosis["Subject"]) == ("mount-point-missing", "/d/inner")
    (tmp_path / "inner").mkdir()
    images.docker("start", "-a", "point")


def test_a_program_on_a_file_system_without_exec(images: EngineProcess, tmp_path: Path) -> None:
    program = tmp_path / "program"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec", "tmpfs", tmp_path], check=True)
    try:
        program.write_text("#!/bin/sh\necho fine\n")
        program.chmod(0o755)
        images.docker("run", "--name", "noexec", "-v", f"{tmp_path}:/d", BROKEN, "/d/program", check=False)
        diagnosis = _diagnosis(images, "noexec") or {}
        assert (diagnosis["Code"], diagnosis["Subject"]) == ("noexec-mount", "/d/program")
        subprocess.run(["mount", "-o", "remount,exec", tmp_path], check=True)
        images.docker("start", "-a", "noexec")
    finally:
        images.docker("rm", "-f", "noexec")
        subprocess.run(["umount", tmp_path], check=True)


def test_a_library_outside_the_search_path(images: EngineProcess) -> None:
    images.docker("volume", "create", "diagnosis-lib")
    volume = ("-v", "diagnosis-lib:/usr/local/lib")
    images.docker("run", "--rm", *volume, LIBC, "cp", "/c/good/libfoo.so.1", "/usr/local/lib/")
    images.docker("run", "--name", "unsearched", *volume, LIBC, "/c/elsewhere", check=False)
    diagnosis = _diagnosis(images, "unsearched") or {}
    assert (diagnosis["Code"], diagnosis["Subject"]) == ("library-not-searched", "libfoo.so.1")
    assert "ENV LD_LIBRARY_PATH=/usr/local/lib" in diagnosis["Fix"]
    images.docker("run", "--rm", "-e", "LD_LIBRARY_PATH=/usr/local/lib", *volume, LIBC, "/c/elsewhere")
    images.docker("rm", "unsearched")
    images.docker("volume", "rm", "diagnosis-lib")


def test_without_a_log_the_file_tells(images: EngineProcess) -> None:
    images.docker("run", "--name", "silent", "--log-driver", "none", BROKEN, "/c/no-bash", check=False)
    assert (_diagnosis(images, "silent") or {})["Code"] == "interpreter-missing"


def test_a_terminal_does_not_hide_the_words(images: EngineProcess) -> None:
    images.docker("run", "-d", "-t", "--name", "tty", BROKEN, "/c/calls-missing", "grpe")
    images.docker("wait", "tty")
    assert (_diagnosis(images, "tty") or {})["Subject"] == "grpe"


def test_exec_tells_the_cause(images: EngineProcess) -> None:
    images.docker("run", "-d", "--name", "runs", BROKEN, "sleep", "100")
    for options, command, status, cause in (
        ((), ["lss"], 127, "did you mean less or ls?"),
        ((), ["/c/no-x"], 126, "has no execute bit"),
        (("-u", "gest"), ["true"], 1, "did you mean guest?"),  # refused when it is made
        (("-w", "/nowhere"), ["true"], 127, "the working directory /nowhere does not exist"),
        (("-e", "PATH=/sbin"), ["less"], 127, "but there is /usr/bin/less"),
    ):
        done = images.docker("exec", *options, "runs", *command, check=False)
        assert done.returncode == status
        assert cause in (done.stdout + done.stderr).decode()
    images.docker("rm", "-f", "runs")


def test_docker_and_its_words_come_first(images: EngineProcess) -> None:
    failed = images.docker("run", "--rm", BROKEN, "lss", check=False)
    assert failed.returncode == 127
    assert b'exec: "lss": executable file not found in $PATH (no lss in PATH' in failed.stderr


@pytest.mark.parametrize("removed", [True, False])
def test_the_command_line_tells_cause_and_fix(images: EngineProcess, *, removed: bool) -> None:
    options = ("--rm",) if removed else ("--name", "told")
    failed = images.tare("run", *options, BROKEN, "lss", check=False)
    assert failed.returncode == 127
    lines = failed.stderr.decode().splitlines()
    assert lines[0].endswith('exec: "lss": executable file not found in $PATH')
    assert lines[1].startswith("cause: no lss in PATH") and lines[1].endswith("[command-not-found]")
    assert lines[2].startswith("fix:   did you mean less or ls?")
    ended = images.tare("run", "--rm", BROKEN, "/c/crlf", check=False)
    assert b"cause: /c/crlf has Windows' line ends" in ended.stderr and b"[shebang-crlf]" in ended.stderr
    if not removed:
        told = images.tare("why", "told").stdout.decode()
        assert told.startswith("told: did not start: failed to create task")
        assert "\ncause: no lss in PATH" in told and "\nfix:   did you mean" in told
        images.docker("rm", "told")


def test_why_of_containers_without_a_cause(images: EngineProcess) -> None:
    images.docker("create", "--name", "fresh", BROKEN, "true")
    images.docker("run", "--name", "three", BROKEN, "sh", "-c", "exit 3", check=False)
    images.docker("run", "-d", "--name", "lives", BROKEN, "sleep", "100")
    done = images.tare("why", "fresh", "three", "lives", "nobody", check=False)
    assert done.returncode == 1
    text = done.stdout.decode()
    assert "fresh: was never started\n" in text
    assert "three: ended with exit code 3 at " in text and "tare logs --tail 20 three" in text
    assert "lives: is running\n" in text
    assert b"No such container: nobody" in done.stderr


def _diagnosis(engine: EngineProcess, name: str) -> dict[str, str] | None:
    (document,) = json.loads(engine.tare("inspect", "--type", "container", name).stdout)
    found: dict[str, str] | None = document["State"].get("Diagnosis")
    return found


def test_a_build_step_tells_the_cause(images: EngineProcess) -> None:
    for lines, cause in (
        ("FROM scratch\nRUN echo hello\n", "the image has no shell"),
        (f'FROM {BROKEN}\nRUN ["lss"]\n', "did you mean less or ls?"),
        (f'FROM {BROKEN}\nRUN ["/c/no-x"]\n', "has no execute bit"),
    ):
        failed = images.tare("build", "-", stdin=lines.encode(), check=False)
        assert failed.returncode == 1
        assert cause in failed.stderr.decode(), failed.stderr
