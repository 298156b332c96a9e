"""What is done for crun: its words, its view of a hybrid host, its compiled filters."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from tare.errors import ExecutableError
from tare.kernel.cgroups import CgroupLayout
from tare.runtime.conmon import ConmonRequest, arguments
from tare.runtime.crun_words import docker_words
from tare.runtime.filters import ANNOTATION, CompiledFilters
from tare.runtime.oci_runtime import OciRuntime, execution_error
from tare.runtime.view import without_v2

VERB = "crun create failed"


@pytest.mark.parametrize(
    ("message", "command", "told"),
    [
        ("executable file `foo` not found in $PATH: No such file or directory", "foo",
         'exec: "foo": executable file not found in $PATH'),
        ("executable file `/a b` not found in $PATH: No such file or directory", "/a b",
         'exec: "/a b": stat /a b: no such file or directory'),
        ("open /proc/sys/net/ipv4/nosuch: No such file or directory", "x",
         "error during container init: open /proc/sys/net/ipv4/nosuch: no such file or directory"),
        ("chdir `/nowhere`: No such file or directory", "x",
         'chdir to cwd ("/nowhere") set in config.json failed: no such file or directory'),
        ("open executable: Permission denied", "/bin/x", 'exec: "/bin/x": permission denied'),
        ("open executable: Permission denied", "x", 'exec: "x": executable file not found in $PATH'),
        ("open executable: Operation not permitted", "/etc", 'exec: "/etc": permission denied'),
        ("open executable: Operation not permitted", "", 'exec: "": executable file not found in $PATH'),
        ("open executable: Too many levels of symbolic links", "/l",
         'exec: "/l": stat /l: too many levels of symbolic links'),
        ("mount `/etc` to `etc/plain`: Not a directory", "x",
         'error during container init: error mounting "/etc" to rootfs at "/etc/plain": '
         "mount /etc:/etc/plain: not a directory"),
        ("error stat'ing file `/none`: No such file or directory", "x",
         'error during container init: error mounting "/none": stat /none: no such file or directory'),
    ],
)  # fmt: skip
def test_crun_s_messages_in_docker_s_words(message: str, command: str, told: str) -> None:
    expected = f"{VERB}: unable to start container process: {told}"
    assert docker_words(message, command=command, verb=VERB) == expected


@pytest.mark.parametrize("message", ['runc create failed: exec: "x": permission denied', "something new", ""])
def test_other_messages_stay(message: str) -> None:
    assert docker_words(message, command="x", verb=VERB) == message


@pytest.mark.parametrize(
    ("message", "command", "code"),
    [
        ("executable file `x` not found in $PATH: No such file or directory", "x", 127),
        ("open executable: Permission denied", "/x", 126),
        ("open executable: Permission denied", "x", 127),
    ],
)
def test_exit_codes(message: str, command: str, code: int) -> None:
    error = execution_error("", message, command=command, verb=VERB)
    assert isinstance(error, ExecutableError)
    assert error.exit_code == code


def _layout(kind: Any, unified: str | None) -> CgroupLayout:
    return CgroupLayout(
        kind=kind, v1={}, unified=Path(unified) if unified else None, controllers=frozenset(), swap=False
    )


def test_only_a_hybrid_host_is_hidden() -> None:
    command = without_v2(_layout("hybrid", "/proc/nowhere"))
    assert command[1:3] == ("--mount", "--propagation")
    assert command[-2:] == ("/proc", "/proc/nowhere"), "what is made private is the mount above"
    assert without_v2(_layout("v2", "/sys/fs/cgroup")) == ()
    assert without_v2(_layout("v1", None)) == ()


def test_conmon_creates_through_the_view_and_executes_without_it() -> None:
    runtime = OciRuntime("/usr/bin/crun", Path("/run/x"), ("/usr/bin/unshare", "--mount", "--"))
    request = ConmonRequest(container_id="c", exit_name="c", directory=Path("/run/d"))
    create = arguments("conmon", runtime, request)
    assert create[create.index("--runtime") + 1] == "/usr/bin/unshare"
    told = [create[i + 1] for i, word in enumerate(create) if word == "--runtime-arg"]
    assert told[:4] == ["--mount", "--", "/usr/bin/crun", "--root"]
    request = ConmonRequest(container_id="c", exit_name="e", directory=Path("/run/d"), process_spec=Path("/run/p"))
    execute = arguments("conmon", runtime, request)
    assert execute[execute.index("--runtime") + 1] == "/usr/bin/crun"
    assert "--mount" not in execute


@pytest.fixture
def runtime(tmp_path: Path) -> OciRuntime:
    program = tmp_path / "crun"
    program.write_text("")
    (tmp_path / "state/c1").mkdir(parents=True)
    return OciRuntime(str(program), tmp_path / "state")


def _spec(action: str = "SCMP_ACT_ERRNO") -> dict[str, Any]:
    return {"linux": {"seccomp": {"defaultAction": action}}}


def test_a_compiled_filter_is_offered_to_the_next_container(runtime: OciRuntime, tmp_path: Path) -> None:
    compiled = bytes(range(16))
    (tmp_path / "state/c1/seccomp.bpf").write_bytes(compiled)
    filters = CompiledFilters(runtime, tmp_path / "cache")
    first = _spec()
    filters.offer(first)
    assert "annotations" not in first
    filters.keep(first, "c1")
    for store in (filters, CompiledFilters(runtime, tmp_path / "cache")):
        again = _spec()
        store.offer(again)
        assert base64.b64decode(again["annotations"][ANNOTATION]) == compiled
    other = _spec("SCMP_ACT_KILL")
    filters.offer(other)
    assert "annotations" not in other, "another profile has another filter"


def test_a_filter_of_the_user_s_own_is_left_alone(runtime: OciRuntime, tmp_path: Path) -> None:
    (tmp_path / "state/c1/seccomp.bpf").write_bytes(bytes(8))
    filters = CompiledFilters(runtime, tmp_path / "cache")
    spec = {**_spec(), "annotations": {ANNOTATION: "bWluZQ=="}}
    filters.keep(spec, "c1")
    filters.offer(spec)
    assert spec["annotations"] == {ANNOTATION: "bWluZQ=="}
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("data", [b"", b"1234567", bytes(8 * 4097)])
def test_what_is_no_filter_is_not_kept(runtime: OciRuntime, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "state/c1/seccomp.bpf").write_bytes(data)
    CompiledFilters(runtime, tmp_path / "cache").keep(_spec(), "c1")
    assert not (tmp_path / "cache").exists()


def test_a_damaged_filter_is_never_offered(runtime: OciRuntime, tmp_path: Path) -> None:
    (tmp_path / "state/c1/seccomp.bpf").write_bytes(bytes(16))
    CompiledFilters(runtime, tmp_path / "cache").keep(_spec(), "c1")
    (stored,) = (tmp_path / "cache").iterdir()
    stored.write_bytes(stored.read_bytes()[:-1] + b"\1")
    spec = _spec()
    CompiledFilters(runtime, tmp_path / "cache").offer(spec)
    assert "annotations" not in spec


def test_other_runtimes_and_listeners_have_no_part_in_it(runtime: OciRuntime, tmp_path: Path) -> None:
    (tmp_path / "runc").write_text("")
    (tmp_path / "state/c1/seccomp.bpf").write_bytes(bytes(8))
    CompiledFilters(OciRuntime(str(tmp_path / "runc"), runtime.root), tmp_path / "cache").keep(_spec(), "c1")
    CompiledFilters(runtime, tmp_path / "cache").keep(_spec("SCMP_ACT_NOTIFY"), "c1")
    CompiledFilters(runtime, tmp_path / "cache").keep({"linux": {}}, "c1")
    assert not (tmp_path / "cache").exists()
