"""Docker's own command line as the judge of the API, with a fake engine behind it."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from api_fakes import CONTAINER_ID, IMAGE_ID, Docker, FakeEngine, FakeProcess, make_container

from tare.build.dockerfile.source import Source, SourceRange
from tare.build.failures import BuildStepFailed
from tare.engine.requests import Exit
from tare.errors import Conflict, NotFound
from tare.model import Platform
from tare.model.container import ContainerState


async def test_version_names_engine_and_components(docker: Docker) -> None:
    ended = await docker("version")
    assert ended.code == 0, ended.err
    assert b"Tare Engine" in ended.out
    assert b"runc" in ended.out


async def test_info(docker: Docker) -> None:
    ended = await docker("info")
    assert ended.code == 0, ended.err
    assert b"Storage Driver: unpacked" in ended.out


async def test_ps_shows_name_status_and_ports(engine: FakeEngine, docker: Docker) -> None:
    engine.containers.add(make_container())
    ended = await docker("ps", "--no-trunc")
    assert ended.code == 0, ended.err
    assert b'"/bin/server --port 80"' in ended.out
    assert b"0.0.0.0:8080->80/tcp" in ended.out
    assert b"443/tcp" in ended.out
    assert b"Up " in ended.out


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{.NetworkSettings.IPAddress}}", "172.17.0.2"),
        ("{{.State.Status}}", "running"),
        ("{{json .Mounts}}", "[]"),
        ("{{.HostConfig.NetworkMode}}", "bridge"),
        ("{{.HostConfig.RestartPolicy.Name}}", ""),
        ("{{.Config.Image}}", "app:1"),
        ("{{.Name}}", "/web"),
        ('{{(index .NetworkSettings.Networks "bridge").Gateway}}', "172.17.0.1"),
        ('{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}', "8080"),
        ("{{.HostConfig.LogConfig.Type}}", ""),
        ("{{.State.Running}} {{.State.Pid}} {{.State.ExitCode}}", "true 42 0"),
        ("{{len .HostConfig.BlkioDeviceReadBps}}", "0"),
    ],
)
async def test_inspect_templates(engine: FakeEngine, docker: Docker, template: str, expected: str) -> None:
    engine.containers.add(make_container())
    ended = await docker("inspect", "--format", template, "web")
    assert (ended.code, ended.out.decode().strip()) == (0, expected), ended.err


async def test_inspect_unknown(docker: Docker) -> None:
    ended = await docker("container", "inspect", "ghost")
    assert ended.code == 1
    assert b"No such container: ghost" in ended.err


async def test_run_shows_both_streams_and_exits_with_the_containers_code(engine: FakeEngine, docker: Docker) -> None:
    process = FakeProcess()
    engine.containers.process = process

    def started() -> None:
        process.emit(1, b"to out\n")
        process.emit(2, b"to err\n")
        process.end()
        assert engine.containers.exit is not None
        engine.containers.exit.set_result(Exit(code=3))

    engine.containers.on_start = started
    ended = await docker("run", "app:1", "cmd")
    assert (ended.code, ended.out, ended.err) == (3, b"to out\n", b"to err\n")
    order = [name for name, _ in engine.containers.calls]
    assert order.index("attach") < order.index("wait") < order.index("start")


async def test_run_interactive_feeds_stdin_and_its_end(engine: FakeEngine, docker: Docker) -> None:
    engine.containers.process = FakeProcess(echo=True)

    def started() -> None:
        async def exit_at_eof() -> None:
            await engine.containers.process.eof.wait()
            assert engine.containers.exit is not None
            engine.containers.exit.set_result(Exit(code=0))

        tasks.append(asyncio.create_task(exit_at_eof()))

    tasks: list[asyncio.Task[None]] = []
    engine.containers.on_start = started
    payload = bytes(range(256)) * 8192  # 2 MB, every byte value
    ended = await docker("run", "-i", "app:1", stdin=payload)
    assert ended.code == 0, ended.err
    assert ended.out == payload
    assert ended.err == b"end\n"
    await asyncio.gather(*tasks)


async def test_run_reports_an_unknown_image_with_125(engine: FakeEngine, docker: Docker) -> None:
    engine.containers.error = NotFound("No such image: missing:latest")
    ended = await docker("run", "missing")
    assert ended.code == 125
    assert b"pull access denied" in ended.err
    assert engine.images.calls == [("pull", ("docker.io/library/missing:latest", ""))]


async def test_run_reports_a_name_in_use_with_125(engine: FakeEngine, docker: Docker) -> None:
    engine.containers.error = Conflict('Conflict. The container name "/web" is already in use by container "1".')
    ended = await docker("run", "--name", "web", "app:1")
    assert ended.code == 125
    assert b'The container name "/web" is already in use' in ended.err


async def test_logs_keeps_streams_apart(engine: FakeEngine, docker: Docker) -> None:
    engine.containers.add(make_container())
    moment = CREATED_AT.removesuffix("Z").encode()
    engine.containers.lines = [(1, moment, b"one\n"), (2, moment, b"two\n")]
    ended = await docker("logs", "-t", "--tail", "5", "web")
    assert ended.out == f"{CREATED_AT} one\n".encode()
    assert ended.err == f"{CREATED_AT} two\n".encode()
    request = engine.containers.calls[-1][1]
    assert (request.tail, request.timestamps, request.follow) == (5, True, False)


CREATED_AT = "2026-01-02T03:04:05.000000001Z"


async def test_exec_with_stdin_ends_with_the_commands_code(engine: FakeEngine, docker: Docker) -> None:
    engine.containers.add(make_container())
    engine.execs.process = FakeProcess(echo=True)
    ended = await docker("exec", "-i", "-e", "A=b", "-w", "/srv", "-u", "7", "web", "cat", stdin=b"hello\x00world")
    assert (ended.code, ended.out, ended.err) == (7, b"hello\x00world", b"end\n")
    assert engine.execs.state is not None
    config = engine.execs.state.config
    assert (config.cmd, config.env, config.working_dir, config.user) == (("cat",), ("A=b",), "/srv", "7")


async def test_exec_of_a_missing_program(engine: FakeEngine, docker: Docker) -> None:
    engine.containers.add(make_container())
    engine.execs.missing = True
    ended = await docker("exec", "web", "no-such")
    assert ended.code == 127
    assert b"executable file not found in $PATH" in ended.out + ended.err


async def test_exec_detached(engine: FakeEngine, docker: Docker) -> None:
    engine.containers.add(make_container())
    ended = await docker("exec", "-d", "web", "true")
    assert (ended.code, ended.out) == (0, b"")
    assert engine.execs.calls == [("start", (True, False, None))]


async def test_stop_wait_kill_rm(engine: FakeEngine, docker: Docker) -> None:
    engine.containers.add(make_container())
    assert (await docker("stop", "-t", "3", "-s", "SIGINT", "web")).out == b"web\n"
    assert (await docker("kill", "-s", "HUP", "web")).code == 0
    refused = await docker("rm", "web")
    assert refused.code == 1
    assert b"container is running" in refused.err
    assert (await docker("rm", "-f", "-v", "web")).out == b"web\n"
    calls = [call for call in engine.containers.calls if call[0] in ("stop", "kill", "remove")]
    assert calls == [("stop", (3, "SIGINT")), ("kill", "HUP"), ("remove", (True, True))]


async def test_ps_all_words_for_states(engine: FakeEngine, docker: Docker) -> None:
    engine.containers.add(make_container("done", id="a" * 64, state=ContainerState(
        status="exited", exit_code=137, started_at=CREATED_AT, finished_at=CREATED_AT)))  # fmt: skip
    engine.containers.add(make_container("fresh", id="b" * 64, state=ContainerState()))
    ended = await docker("ps", "-a", "--format", "{{.Names}}|{{.Status}}")
    assert b"done|Exited (137) " in ended.out
    assert b"fresh|Created" in ended.out


async def test_images_and_image_inspect(docker: Docker) -> None:
    listed = await docker("images")
    assert listed.code == 0, listed.err
    assert b"tare.local/debian" in listed.out
    inspected = await docker("image", "inspect", "app:1")
    assert inspected.code == 0, inspected.err
    document = json.loads(inspected.out)[0]
    assert document["Id"] == f"sha256:{IMAGE_ID}"
    assert document["Config"]["Cmd"] == ["sh"]
    assert document["RepoTags"] == ["app:1", "tare.local/debian:12"]


async def test_image_history_tag_rmi_prune(engine: FakeEngine, docker: Docker) -> None:
    assert b"COPY x /" in (await docker("history", "app:1")).out
    assert (await docker("tag", "app:1", "other:2")).code == 0
    assert ("tag", ("app:1", "docker.io/library/other", "2")) in engine.images.calls
    assert b"Untagged: app:1" in (await docker("rmi", "app:1")).out
    await docker("history", "--platform", "linux/arm/v7", "app:1")
    await docker("rmi", "--platform", "linux/arm64,linux/riscv64", "app:1")
    arm = Platform("linux", "arm", "v7")
    assert ("platform", arm) in engine.images.calls
    assert ("remove", (Platform("linux", "arm64"), Platform("linux", "riscv64"))) in engine.images.calls


async def test_pull_failures(docker: Docker) -> None:
    assert (await docker("pull", "tare.local/debian:12")).code == 0
    missing = await docker("pull", "missing")
    assert missing.code == 1
    assert b"repository does not exist" in missing.err
    broken = await docker("pull", "broken")
    assert broken.code == 1
    assert b"archive changed" in broken.err


async def test_build_speaks_the_classic_builder(engine: FakeEngine, docker: Docker, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM base\nRUN make\n")
    ended = await docker(
        "build", "-t", "x:1", "--build-arg", "A=b", "--label", "l=m", "--target", "final", str(context)
    )
    assert ended.code == 0, ended.err
    text = ended.out.decode()
    expected = (
        f"Step 1/2 : FROM base\n ---> Using cache\n ---> {'1' * 12}\nStep 2/2 : RUN make\nmaking\n"
        f" ---> {IMAGE_ID[:12]}\nSuccessfully built {IMAGE_ID[:12]}\nSuccessfully tagged x:1\n"
    )
    assert text.endswith(expected)
    (job,) = engine.builds.jobs
    assert (job.tags, job.build_args, job.labels, job.target) == (("x:1",), {"A": "b"}, {"l": "m"}, "final")
    assert b"RUN make" in engine.builds.body


async def test_build_quiet_prints_only_the_id(docker: Docker, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM base\n")
    ended = await docker("build", "-q", str(context))
    assert ended.out.decode() == f"sha256:{IMAGE_ID}\n"


async def test_build_failure_has_the_commands_code(engine: FakeEngine, docker: Docker, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM base\nRUN make\n")
    source = Source("Dockerfile", ("FROM base", "RUN make"))
    engine.builds.error = BuildStepFailed(
        ["/bin/sh", "-c", "make"], 42, output=["making"], source=source, where=SourceRange(2, 2)
    )
    ended = await docker("build", str(context))
    assert ended.code == 42
    assert b"The command '/bin/sh -c make' returned a non-zero code: 42" in ended.err
    assert b"Dockerfile:2" in ended.err


async def test_networks_and_volumes(engine: FakeEngine, docker: Docker) -> None:
    assert b"front" in (await docker("network", "ls")).out
    created = await docker("network", "create", "--subnet", "10.1.0.0/24", "--internal", "back")
    assert created.code == 0, created.err
    asked = engine.networks.calls[0][1]
    assert (asked.name, asked.pools[0].subnet, asked.internal, asked.driver) == ("back", "10.1.0.0/24", True, "bridge")
    inspected = json.loads((await docker("network", "inspect", "front")).out)[0]
    assert inspected["Containers"][CONTAINER_ID]["IPv4Address"] == "172.18.0.2/16"
    assert inspected["IPAM"]["Config"] == [{"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1"}]
    assert (await docker("network", "connect", "--alias", "db", "front", "web")).code == 0
    assert engine.networks.calls[-1][1][2].aliases == ["db"]
    assert (await docker("volume", "create", "data")).out == b"data\n"
    assert b"/data/data/_data" in (await docker("volume", "inspect", "data")).out
    assert (await docker("volume", "rm", "data")).code == 0


async def test_events_stream(engine: FakeEngine, docker: Docker) -> None:
    engine.events.publish("container", "start", CONTAINER_ID, {"name": "web", "image": "app:1"})
    ended = await docker("events", "--since", "1", "--until", "2", "--format", "{{.Action}}")
    assert (ended.code, ended.out) == (0, b"")
    ended = await docker(
        "events",
        "--since",
        "1h",
        "--until",
        str(int(time.time()) + 1),
        "--format",
        "{{.Type}} {{.Action}} {{.Actor.ID}}",
    )
    assert ended.out.decode() == f"container start {CONTAINER_ID}\n"
