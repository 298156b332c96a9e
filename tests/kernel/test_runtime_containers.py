"""Real containers under runc and conmon: streams, exit codes, signals, errors, adoption after a crash."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tare.errors import Conflict, ExecutableError, InternalError, NotFound
from tare.kernel import cgroups
from tare.runtime.attach import AttachSession
from tare.runtime.host import HostFacts, probe_host
from tare.runtime.log_rotation import LogKeeper
from tare.runtime.logs import LogBatch, LogQuery, read_logs
from tare.runtime.oci_runtime import OciRuntime
from tare.runtime.probe import probe_runtimes
from tare.runtime.spec import make_spec
from tare.runtime.spec_request import Resources, SpecMount, SpecRequest
from tare.runtime.supervisor import Exit, Supervisor
from tare.runtime.view import without_v2

pytestmark = pytest.mark.root

PARENT = f"/tare-test-{os.getpid()}"
SOURCE = Path(__file__).with_name("runtime_program.c")


class Lab:
    """A supervisor with its own directories and a root file system of one static program."""

    def __init__(self, root: Path, rootfs: Path, facts: HostFacts, runtime: OciRuntime) -> None:
        self.root = root
        self.rootfs = rootfs
        self.facts = facts
        self.runtime = runtime
        self.supervisor = Supervisor(runtime, root / "run")
        self.keeper = LogKeeper()
        self.made: list[str] = []

    def bundle(self, *args: str, cid: str = "", **options: object) -> tuple[str, Path]:
        cid = cid or secrets.token_hex(32)
        request = SpecRequest(rootfs=self.rootfs, args=args, hostname="lab", cgroup_path=f"{PARENT}/{cid}")
        spec = make_spec(replace(request, **options), self.facts)  # type: ignore[arg-type]
        bundle = self.root / "bundles" / cid
        bundle.mkdir(parents=True)
        (bundle / "config.json").write_text(json.dumps(spec))
        self.made.append(cid)
        return cid, bundle

    def process(self, cid: str, *args: str, **fields: object) -> dict[str, object]:
        spec = json.loads((self.root / "bundles" / cid / "config.json").read_text())
        return spec["process"] | {"args": list(args)} | fields

    def log(self, cid: str) -> Path:
        return self.root / "bundles" / cid / "log"

    async def create(self, *args: str, terminal: bool = False, stdin: bool = False, **options: object) -> str:
        cid, bundle = self.bundle(*args, terminal=terminal, **options)
        await self.supervisor.create(
            cid, bundle, log_path=bundle / "log", terminal=terminal, open_stdin=stdin, stdin_once=stdin
        )
        return cid

    async def run(self, *args: str, **options: object) -> tuple[Exit, bytes, bytes]:
        cid = await self.create(*args, **options)  # type: ignore[arg-type]
        async with await self.supervisor.attach(cid) as session:
            await self.supervisor.start(cid)
            out, err = await collect(session)
        ended = await self.supervisor.wait(cid)
        await self.supervisor.delete(cid)
        return ended, out, err

    def leftovers(self) -> list[str]:
        found = [str(path) for path in (self.root / "run" / "containers").glob("*")]
        found += [str(path) for path in self.runtime.root.glob("*")]
        for cid in self.made:
            found += [str(path) for path in self.facts.cgroups.directories(f"{PARENT}/{cid}") if path.exists()]
        return found


async def collect(session: object) -> tuple[bytes, bytes]:
    out, err = bytearray(), bytearray()
    async with session:  # type: ignore[attr-defined]
        async for stream, data in session:  # type: ignore[attr-defined]
            (out if stream == 1 else err).extend(data)
    return bytes(out), bytes(err)


async def logged(lab: Lab, cid: str) -> LogBatch:
    with await lab.keeper.open(lab.log(cid), follow=False) as reading:
        return [line async for lines in read_logs(reading, LogQuery()) for line in lines]


async def first(session: AttachSession) -> bytes:
    async for _, data in session:
        return data
    return b""


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rootfs")
    root.chmod(0o755)
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "mnt"):
        (root / name).mkdir()
    subprocess.run(["gcc", "-O1", "-static", "-w", "-o", str(root / "bin/prog"), str(SOURCE)], check=True)
    (root / "bin/plain").write_text("not a program")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    return root


@pytest.fixture(params=["crun", "runc"])
async def lab(tmp_path: Path, rootfs: Path, request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    facts = probe_host()
    path = shutil.which(request.param)
    assert path is not None
    view = without_v2(facts.cgroups) if request.param == "crun" else ()
    lab = Lab(tmp_path, rootfs, facts, OciRuntime(path, tmp_path / "oci", view))
    yield lab
    await lab.keeper.close()
    for cid in list(lab.supervisor._tasks):
        await lab.supervisor.delete(cid)
    left = lab.leftovers()
    cgroups.remove_cgroup(facts.cgroups, PARENT)
    assert left == []


@pytest.mark.parametrize("code", [0, 1, 42, 255])
async def test_the_exit_code_is_the_program_s(lab: Lab, code: int) -> None:
    ended, out, err = await lab.run("prog", "exit", str(code))
    assert (ended.code, ended.oom_killed, out, err) == (code, False, b"", b"")
    assert ended.finished_at.endswith("Z")


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
async def test_a_program_that_kills_itself_has_128_plus_the_signal(lab: Lab, number: signal.Signals) -> None:
    # SIGKILL to oneself does nothing for the first process of a pid namespace; faults do
    ended, _, _ = await lab.run("prog", "signal", str(int(number)))
    assert ended.code in (97, 128 + number)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_killed_program_has_128_plus_the_signal(lab: Lab, number: signal.Signals) -> None:
    cid = await lab.create("prog", "pause", pid_mode="host" if number == signal.SIGTERM else "")
    async with await lab.supervisor.attach(cid) as session:
        await lab.supervisor.start(cid)
        assert await first(session) == b"ready\n"
        await lab.supervisor.kill(cid, number)
        assert (await lab.supervisor.wait(cid)).code == 128 + number
    with pytest.raises(Conflict, match="is not running"):
        await lab.supervisor.kill(cid, number)
    await lab.supervisor.delete(cid)


async def test_a_signal_reaches_the_program(lab: Lab) -> None:
    cid = await lab.create("prog", "term")
    async with await lab.supervisor.attach(cid) as session:
        await lab.supervisor.start(cid)
        assert await first(session) == b"ready\n"
        await lab.supervisor.kill(cid, signal.SIGTERM)
        assert await collect(session) == (b"goodbye", b"")
    assert (await lab.supervisor.wait(cid)).code == 42


async def test_stdout_and_stderr_are_kept_apart(lab: Lab) -> None:
    _, out, err = await lab.run("prog", "streams")
    assert (out, err) == (b"to stdout\nno newline", b"to stderr\n")


async def test_a_megabyte_goes_in_and_comes_out_unchanged_and_eof_arrives(lab: Lab) -> None:
    data = secrets.token_bytes(1 << 20)
    cid = await lab.create("prog", "cat", stdin=True)
    async with await lab.supervisor.attach(cid) as session:
        await lab.supervisor.start(cid)

        async def feed() -> None:
            await session.write(data)
            await session.close_stdin()

        feeding = asyncio.create_task(feed())
        out, err = await collect(session)
        await feeding
    assert out == data
    assert err == b"eof\n"
    assert (await lab.supervisor.wait(cid)).code == 5
    lines = await logged(lab, cid)
    assert b"".join(text for stream, _, text in lines if stream == 1) == data


async def test_stdin_written_before_the_start_is_read(lab: Lab) -> None:
    cid = await lab.create("prog", "cat", stdin=True)
    async with await lab.supervisor.attach(cid) as session:
        await session.write(b"early")
        await session.close_stdin()
        await lab.supervisor.start(cid)
        assert await collect(session) == (b"early", b"eof\n")


async def test_a_closed_stdin_is_empty(lab: Lab) -> None:
    ended, out, err = await lab.run("prog", "cat")
    assert (ended.code, out, err) == (5, b"", b"eof\n")


async def test_fast_programs_lose_no_output(lab: Lab) -> None:
    expected = b"".join(b"%08d\n" % number for number in range(3000))
    for _ in range(20):
        _, out, _ = await lab.run("prog", "fill", "3000")
        assert out == expected


async def test_a_slow_reader_loses_nothing(lab: Lab) -> None:
    cid = await lab.create("prog", "fill", "100000")
    async with await lab.supervisor.attach(cid) as session:
        await lab.supervisor.start(cid)
        await asyncio.to_thread(os.sched_yield)
        out, _ = await collect(session)
    assert len(out) == 900000
    assert out.endswith(b"00099999\n")


async def test_two_clients_both_see_everything(lab: Lab) -> None:
    cid = await lab.create("prog", "cat", stdin=True)
    async with await lab.supervisor.attach(cid) as one, await lab.supervisor.attach(cid) as two:
        await lab.supervisor.start(cid)
        await one.write(b"heard")  # the supervisor takes both connections before what one of them says
        await one.close_stdin()
        first_seen, second_seen = await asyncio.gather(collect(one), collect(two))
    assert first_seen == second_seen == (b"heard", b"eof\n")


async def test_a_terminal_can_be_resized(lab: Lab) -> None:
    cid = await lab.create("prog", "winsize", terminal=True, stdin=True)
    async with await lab.supervisor.attach(cid) as session:
        await session.resize(31, 117)
        await lab.supervisor.start(cid)
        await session.write(b"x\n")
        out, err = await collect(session)
    assert out.replace(b"x\r\n", b"") == b"31 117 1\r\n"
    assert err == b""


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("absent", 127, 'exec: "absent": executable file not found in $PATH'),
        ("/bin/absent", 127, "no such file or directory"),
        ("/bin/plain", 126, "permission denied"),
        ("/etc", 126, "permission denied"),
    ],
)
async def test_a_command_that_cannot_run_is_named_and_leaves_nothing(
    lab: Lab, command: str, code: int, words: str
) -> None:
    with pytest.raises(ExecutableError) as caught:
        await lab.create(command)
    assert caught.value.exit_code == code
    prefix = "failed to create task for container: failed to create shim task: OCI runtime create failed: "
    verb = f"{prefix}{lab.runtime.name} create failed"
    assert caught.value.message.startswith(f"{verb}: unable to start container process: exec: ")
    assert caught.value.message.endswith(words)
    assert lab.leftovers() == []


async def test_a_missing_mount_source_is_an_error_of_the_runtime(lab: Lab) -> None:
    with pytest.raises(InternalError, match="no such file or directory"):
        await lab.create("prog", mounts=(SpecMount(source="/nowhere/at/all", destination="/mnt"),))
    assert lab.leftovers() == []


async def test_an_id_can_be_used_once(lab: Lab) -> None:
    cid = await lab.create("prog")
    with pytest.raises(Conflict, match="already set up"):
        await lab.supervisor.create(cid, lab.root / "bundles" / cid, log_path=None)
    await lab.supervisor.delete(cid)
    await lab.supervisor.delete(cid)
    with pytest.raises(NotFound, match="not supervised"):
        await lab.supervisor.wait(cid)


async def test_a_running_container_can_be_deleted(lab: Lab) -> None:
    cid = await lab.create("prog", "pause")
    await lab.supervisor.start(cid)
    waiting = asyncio.create_task(lab.supervisor.wait(cid))
    await asyncio.to_thread(os.sched_yield)
    await lab.supervisor.delete(cid)
    assert (await waiting).code == 137


@pytest.mark.parametrize("seconds", [0.0, 0.003, 0.01, 0.02, 0.03])
async def test_a_creation_can_be_cancelled_at_any_time(lab: Lab, seconds: float) -> None:
    cid, bundle = lab.bundle("prog", "pause")
    creating = asyncio.create_task(lab.supervisor.create(cid, bundle, log_path=None))
    done, _ = await asyncio.wait({creating}, timeout=seconds)
    if not done:
        creating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await creating
        assert lab.leftovers() == []


async def test_an_exec_can_be_cancelled(lab: Lab) -> None:
    cid = await lab.create("prog", "pause")
    await lab.supervisor.start(cid)
    starting = asyncio.create_task(lab.supervisor.exec(cid, "late", lab.process(cid, "prog", "pause")))
    await asyncio.wait({starting}, timeout=0.005)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert list((lab.supervisor.directory(cid) / "exec").iterdir()) == []


async def test_a_paused_container_stands_still(lab: Lab) -> None:
    cid = await lab.create("prog", "pause")
    await lab.supervisor.start(cid)
    await lab.supervisor.pause(cid)
    assert (await lab.runtime.state(cid))["status"] == "paused"
    await lab.supervisor.resume(cid)
    assert (await lab.runtime.state(cid))["status"] == "running"


async def test_memory_is_limited_and_the_kill_is_reported(lab: Lab) -> None:
    ended, _, _ = await lab.run("prog", "hog", resources=Resources(memory=16 << 20))
    assert ended.code == 137
    assert ended.oom_killed


async def test_the_spec_arrives_in_the_container(lab: Lab) -> None:
    _, out, _ = await lab.run("prog", "file", "/proc/self/status", uid=1234, gid=5678)
    status = dict(line.split(":\t", 1) for line in out.decode().splitlines() if ":\t" in line)
    assert status["Uid"] == "1234\t1234\t1234\t1234"
    assert int(status["CapBnd"], 16) == 0xA80425FB
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == int(status["CapInh"], 16) == 0
    assert status["Seccomp"] == "2"


async def test_root_has_docker_s_default_capabilities(lab: Lab) -> None:
    _, out, _ = await lab.run("prog", "file", "/proc/self/status")
    status = dict(line.split(":\t", 1) for line in out.decode().splitlines() if ":\t" in line)
    assert int(status["CapEff"], 16) == 0xA80425FB


async def test_masked_paths_cannot_be_read(lab: Lab) -> None:
    ended, out, _ = await lab.run("prog", "file", "/proc/timer_list")
    assert (ended.code, out) == (0, b"")


async def test_home_path_and_hostname_are_set(lab: Lab) -> None:
    _, out, _ = await lab.run("prog", "env", env=("A=1",))
    assert set(out.decode().split()) == {
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=lab", "A=1", "HOME=/root",
    }  # fmt: skip


async def test_a_dead_engine_s_container_is_adopted_with_its_exit_code(lab: Lab) -> None:
    cid, bundle = lab.bundle("prog", "term")
    script = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        from tare.runtime.oci_runtime import OciRuntime
        from tare.runtime.supervisor import Supervisor

        async def main():
            runtime, oci, run, cid, bundle, *view = sys.argv[1:]
            supervisor = Supervisor(OciRuntime(runtime, Path(oci), tuple(view)), Path(run))
            await supervisor.create(cid, Path(bundle), log_path=Path(bundle) / "log")
            await supervisor.start(cid)
            print("started", flush=True)
            await supervisor.wait(cid)

        asyncio.run(main())
        """
    )
    engine = subprocess.Popen(
        [
            sys.executable,
            "-c",
            script,
            lab.runtime.path,
            lab.runtime.root,
            lab.root / "run",
            cid,
            bundle,
            *lab.runtime.view,
        ],
        stdout=subprocess.PIPE,
    )
    assert engine.stdout is not None
    with engine.stdout:
        assert await asyncio.to_thread(engine.stdout.readline) == b"started\n"
        engine.kill()
        await asyncio.to_thread(engine.wait)
    assert await lab.supervisor.adopt(cid)
    with pytest.raises(Conflict, match="already"):
        await lab.supervisor.adopt(cid)
    with await lab.keeper.open(lab.log(cid), follow=True) as reading:
        async for lines in read_logs(reading, LogQuery(), asyncio.Event()):
            assert [text for _, _, text in lines] == [b"ready\n"]
            break
    await lab.supervisor.kill(cid, signal.SIGTERM)
    assert (await lab.supervisor.wait(cid)).code == 42
    assert [text for _, _, text in await logged(lab, cid)] == [b"ready\n", b"goodbye"]


async def test_a_container_that_ended_meanwhile_is_adopted_with_its_exit_code(lab: Lab) -> None:
    cid = await lab.create("prog", "exit", "33")
    await lab.supervisor.start(cid)
    ended = await lab.supervisor.wait(cid)
    await lab.supervisor.close()
    assert not await lab.supervisor.adopt(cid)
    assert await lab.supervisor.wait(cid) == ended


async def test_nothing_known_is_code_255_and_a_recycled_id_is_not_ours(lab: Lab) -> None:
    cid = "f" * 64
    directory = lab.supervisor.directory(cid)
    directory.mkdir(parents=True)
    (directory / "conmon.pid").write_text(str(os.getpid()))
    (directory / "pid").write_text(str(os.getpid()))
    assert not await lab.supervisor.adopt(cid)
    assert (await lab.supervisor.wait(cid)).code == 255


async def test_without_its_supervisor_a_container_is_killed(lab: Lab) -> None:
    cid, bundle = lab.bundle("prog", "pause")
    created = await lab.supervisor.create(cid, bundle, log_path=None)
    await lab.supervisor.start(cid)
    os.kill(created.conmon_pid, signal.SIGKILL)
    assert (await lab.supervisor.wait(cid)).code == 137


async def test_exec_runs_in_the_container(lab: Lab) -> None:
    cid = await lab.create("prog", "pause")
    await lab.supervisor.start(cid)
    session = await lab.supervisor.exec(cid, "one", lab.process(cid, "prog", "streams"))
    assert await collect(session) == (b"to stdout\nno newline", b"to stderr\n")
    assert await session.wait() == 0
    for number, code in enumerate((0, 7, 200)):
        session = await lab.supervisor.exec(
            cid, f"code{number}", lab.process(cid, "prog", "exit", str(code)), detach=True
        )
        assert await session.wait() == code
    async with await lab.supervisor.exec(cid, "killed", lab.process(cid, "prog", "signal", "9")) as session:
        assert await session.wait() == 137


async def test_exec_takes_input_and_gives_it_back(lab: Lab) -> None:
    cid = await lab.create("prog", "pause")
    await lab.supervisor.start(cid)
    data = secrets.token_bytes(1 << 20)
    session = await lab.supervisor.exec(cid, "cat", lab.process(cid, "prog", "cat"), open_stdin=True)

    async def feed() -> None:
        await session.write(data)
        await session.close_stdin()

    feeding = asyncio.create_task(feed())
    assert await collect(session) == (data, b"eof\n")
    await feeding
    assert await session.wait() == 5


async def test_exec_with_a_terminal(lab: Lab) -> None:
    cid = await lab.create("prog", "pause")
    await lab.supervisor.start(cid)
    process = lab.process(cid, "prog", "winsize", terminal=True)
    session = await lab.supervisor.exec(cid, "tty", process, terminal=True, open_stdin=True)
    await session.resize(20, 90)
    await session.write(b"\n")
    out, _ = await collect(session)
    assert out.strip().endswith(b"20 90 1")
    assert await session.wait() == 0


@pytest.mark.parametrize(("command", "code"), [("absent", 127), ("/bin/plain", 126)])
async def test_exec_of_what_cannot_run(lab: Lab, command: str, code: int) -> None:
    cid = await lab.create("prog", "pause")
    await lab.supervisor.start(cid)
    with pytest.raises(ExecutableError, match=r"^OCI runtime exec failed: exec failed: ") as caught:
        await lab.supervisor.exec(cid, "bad", lab.process(cid, command))
    assert caught.value.exit_code == code
    assert list((lab.supervisor.directory(cid) / "exec").iterdir()) == []


async def test_exec_in_a_stopped_container_is_refused(lab: Lab) -> None:
    cid = await lab.create("prog", "exit", "0")
    await lab.supervisor.start(cid)
    await lab.supervisor.wait(cid)
    with pytest.raises(Conflict, match="is not running"):
        await lab.supervisor.exec(cid, "late", lab.process(cid, "prog"))
    with pytest.raises(Conflict, match="cannot attach"):
        await lab.supervisor.attach(cid)


async def test_run_once_streams_and_ends(lab: Lab) -> None:
    cid, bundle = lab.bundle("prog", "streams")
    seen: list[tuple[str, bytes]] = []
    assert await lab.runtime.run_once(bundle, cid, lambda stream, data: seen.append((stream, data))) == 0
    assert b"".join(data for stream, data in seen if stream == "stdout") == b"to stdout\nno newline"
    assert b"".join(data for stream, data in seen if stream == "stderr") == b"to stderr\n"
    cid, bundle = lab.bundle("prog", "exit", "9")
    assert await lab.runtime.run_once(bundle, cid, lambda _stream, _data: None) == 9
    cid, bundle = lab.bundle("absent")
    with pytest.raises(ExecutableError, match="executable file not found"):
        await lab.runtime.run_once(bundle, cid, lambda _stream, _data: None)


async def test_run_once_is_cancelled_cleanly(lab: Lab) -> None:
    cid, bundle = lab.bundle("prog", "pause")
    ready = asyncio.Event()
    task = asyncio.create_task(lab.runtime.run_once(bundle, cid, lambda _stream, _data: ready.set()))
    await ready.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert lab.leftovers() == []


async def test_the_probe_finds_a_runtime_and_remembers(lab: Lab) -> None:
    cache = lab.root / "runtimes.json"
    found = await probe_runtimes(lab.facts, lab.root / "probe", cache=cache, cgroup_parent=PARENT)
    remembered = json.loads(cache.read_text())
    assert "" in remembered.values()
    again = await probe_runtimes(lab.facts, lab.root / "probe", cache=cache, cgroup_parent=PARENT)
    assert again == found
