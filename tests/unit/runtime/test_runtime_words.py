"""The runtime's words and conmon's arguments, turned into ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tare.errors import Conflict, ExecutableError, InternalError, InvalidArgument, NotFound, Unavailable
from tare.runtime.conmon import ConmonRequest, Launch, arguments
from tare.runtime.host import host_device
from tare.runtime.oci_runtime import OciRuntime, call_error, error_in, execution_error, last_error

RUNTIME = OciRuntime("/usr/sbin/runc", Path("/run/tare/runc"))


def _line(level: str, message: str) -> str:
    return json.dumps({"level": level, "msg": message, "time": "2024-01-01T00:00:00Z"})


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ('runc create failed: unable to start container process: exec: "x": executable file not found in $PATH', 127),
        ('runc create failed: unable to start container process: exec: "/x": stat /x: no such file or directory', 127),
        ('runc create failed: unable to start container process: exec: "/x": permission denied', 126),
        ('runc create failed: unable to start container process: exec: "/etc": is a directory', 126),
    ],
)
def test_a_command_that_cannot_be_executed(message: str, code: int) -> None:
    error = execution_error("OCI runtime create failed: ", message)
    assert isinstance(error, ExecutableError)
    assert error.exit_code == code
    assert error.message == f"OCI runtime create failed: {message}"


@pytest.mark.parametrize(
    "message",
    [
        'error mounting "/a" to rootfs at "/b": stat /a: no such file or directory',
        "cgroups in hybrid mode not supported",
    ],
)
def test_other_failures_are_the_runtime_s(message: str) -> None:
    error = execution_error("", message)
    assert type(error) is InternalError
    assert message in error.message


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (_line("error", "container does not exist"), NotFound),
        (_line("error", "cannot start a container that has stopped"), Conflict),
        (_line("error", "container not running"), Conflict),
        (_line("error", "something else"), InternalError),
        ("plain words", InternalError),
        ("", InternalError),
    ],
)
def test_failed_calls(text: str, kind: type[Exception]) -> None:
    error = call_error("start", ("abc",), text)
    assert type(error) is kind
    assert error.message.startswith("runtime start abc: ")


def test_the_last_error_of_a_log_counts(tmp_path: Path) -> None:
    text = "\n".join([_line("error", "first"), "{rubbish", _line("warning", "only a warning"), _line("error", "last")])
    assert error_in(text) == "last"
    assert error_in("[1]\nno json") == ""
    assert last_error(tmp_path / "none") == ""
    (tmp_path / "log").write_text(text)
    assert last_error(tmp_path / "log") == "last"


def test_conmon_is_told_everything() -> None:
    request = ConmonRequest(
        container_id="c" * 64,
        exit_name="e1",
        directory=Path("/run/tare/containers/c"),
        log_path=Path("/data/log"),
        terminal=True,
        open_stdin=True,
        leave_stdin_open=True,
    )
    argv = arguments("conmon", RUNTIME, request)
    assert argv[argv.index("--log-path") + 1] == "k8s-file:/data/log"
    assert {"--terminal", "--stdin", "--leave-stdin-open", "--full-attach", "--no-sync-log"} <= set(argv)
    assert not {"--exec", "--exec-attach"} & set(argv)
    options = [argv[index + 1] for index, word in enumerate(argv) if word == "--runtime-arg"]
    assert options == [
        "--root", "/run/tare/runc", "--log-format", "json", "--log", "/run/tare/containers/c/oci.log",
    ]  # fmt: skip


def test_an_exec_has_no_log() -> None:
    request = ConmonRequest(
        container_id="c", exit_name="e1", directory=Path("/d"), process_spec=Path("/d/process.json"), attach=True
    )
    argv = arguments("conmon", RUNTIME, request)
    assert argv[argv.index("--log-path") + 1] == "none"
    assert argv[-2:] == ["--exec-process-spec", "/d/process.json"]
    assert "--exec-attach" in argv


def test_a_log_path_that_conmon_would_misread_is_refused() -> None:
    request = ConmonRequest(container_id="c", exit_name="c", directory=Path("/d"), log_path=Path("/data:1/log"))
    with pytest.raises(InvalidArgument, match="has a colon"):
        arguments("conmon", RUNTIME, request)


async def test_a_missing_conmon_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="program not found"):
        async with Launch([str(tmp_path / "absent")], tmp_path):
            pass


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo broken >&2; exit 3", "conmon failed: broken"),
        ("exit 0", "conmon ended without a report"),
        ("echo nonsense >&$_OCI_SYNCPIPE", "reported something unexpected"),
        ("echo '[1]' >&$_OCI_SYNCPIPE", "reported something unexpected"),
    ],
)
async def test_a_conmon_that_does_not_keep_to_its_protocol(tmp_path: Path, script: str, words: str) -> None:
    with pytest.raises(InternalError, match=words):
        async with Launch(["/bin/bash", "-c", script], tmp_path) as launch:
            await launch.report()


async def test_reports_are_read_in_order(tmp_path: Path) -> None:
    script = """printf '{"data": 17}\\n{"data": -1, "message": "a \\\\"b\\\\""}\\n' >&$_OCI_SYNCPIPE"""
    async with Launch(["/bin/bash", "-c", script], tmp_path) as launch:
        assert (await launch.report()).data == 17
        report = await launch.report()
    assert (report.data, report.message) == (-1, 'a "b"')


def test_host_devices_are_looked_up(tmp_path: Path) -> None:
    (null,) = host_device("/dev/null", "/dev/nothing", "rw")
    assert (null.path, null.kind, null.major, null.minor, null.permissions) == ("/dev/nothing", "c", 1, 3, "rw")
    with pytest.raises(NotFound, match="no such file"):
        host_device("/dev/does-not-exist")
    with pytest.raises(InvalidArgument, match="not a device node"):
        host_device(str(tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(InvalidArgument, match="not a device node"):
        host_device(str(tmp_path / "file"))
    with pytest.raises(InvalidArgument, match="invalid device mode: x"):
        host_device("/dev/null", permissions="x")
