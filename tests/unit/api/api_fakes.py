"""An engine of the API's own size: the services' signatures with scripted answers, no containers behind them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tare.build.cache.keeper import Pruned
from tare.build.cache.ledger import CacheRecord
from tare.build.events import BuildEvent, BuildFinished, PlanMade, PlannedStep, VertexDone, VertexOutput, VertexStarted
from tare.build.request import BuildResult
from tare.engine.build_cache import PruneCache
from tare.engine.events import Events
from tare.engine.networks import NetworkDetails
from tare.engine.paths import EnginePaths
from tare.engine.requests import (
    AttachRequest,
    BuildJob,
    Created,
    ExecConfig,
    ExecState,
    Exit,
    Filters,
    ImageSummary,
    LogRequest,
    NetworkCreate,
)
from tare.engine.system import SystemInfo
from tare.errors import Conflict, ExecutableError, InvalidArgument, NotFound
from tare.kernel.cgroups import LimitSupport
from tare.model import Digest, Platform, Reference
from tare.model.container import (
    Container,
    ContainerConfig,
    ContainerState,
    EndpointSettings,
    HostConfig,
    NetworkingConfig,
    PortBinding,
)
from tare.network.model import Driver, Endpoint, Network, Subnet
from tare.oci.image import ExecutionConfig, History, ImageConfig, RootFS
from tare.runtime.logs import LogBatch
from tare.volumes.model import Volume

CONTAINER_ID = "ab" * 32
IMAGE_ID = "cd" * 32
NETWORK_ID = "ef" * 32
CREATED = "2026-01-02T03:04:05.123456789Z"


@dataclass(frozen=True)
class Ended:
    code: int
    out: bytes
    err: bytes


Docker = Callable[..., Awaitable[Ended]]


class FakeProcess:
    """An attachment: a scripted output, or an echo of stdin; remembers what it was given."""

    def __init__(self, script: list[tuple[int, bytes]] | None = None, *, echo: bool = False) -> None:
        self._output: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue()
        self._echo = echo
        self.received = bytearray()
        self.eof = asyncio.Event()
        self.closed = asyncio.Event()
        self.may_read = asyncio.Event()
        self.may_read.set()
        for item in script or []:
            self._output.put_nowait(item)
        if script is not None and not echo:
            self._output.put_nowait(None)

    def emit(self, stream: int, data: bytes) -> None:
        self._output.put_nowait((stream, data))

    def end(self) -> None:
        self._output.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        while (item := await self._output.get()) is not None:
            yield item

    async def write(self, data: bytes) -> None:
        await self.may_read.wait()
        self.received += data
        if self._echo:
            self._output.put_nowait((1, data))

    async def close_stdin(self) -> None:
        self.eof.set()
        if self._echo:
            self._output.put_nowait((2, b"end\n"))
            self._output.put_nowait(None)

    def close(self) -> None:
        self.closed.set()


def make_container(name: str = "web", **changes: Any) -> Container:
    values: dict[str, Any] = {
        "id": CONTAINER_ID,
        "name": name,
        "created": CREATED,
        "image_id": f"sha256:{IMAGE_ID}",
        "image_name": "app:1",
        "path": "/bin/server",
        "args": ["--port", "80"],
        "config": ContainerConfig(image="app:1", cmd=["--port", "80"], entrypoint=["/bin/server"]),
        "host_config": HostConfig(network_mode="bridge"),
        "networking": {},
        "mounts": [],
        "state": ContainerState(status="running", pid=42, started_at=CREATED),
    }
    return Container(**{**values, **changes})


@dataclass
class FakeContainers:
    known: dict[str, Container] = field(default_factory=dict)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    process: FakeProcess = field(default_factory=FakeProcess)
    lines: LogBatch = field(default_factory=list)
    exit: asyncio.Future[Exit] | None = None
    created: tuple[ContainerConfig, HostConfig, NetworkingConfig | None] | None = None
    error: Exception | None = None
    on_start: Callable[[], None] | None = None
    start_gate: asyncio.Event | None = None

    async def image_names(self, containers: Sequence[Container]) -> dict[str, str]:
        return {one.id: one.image_name for one in containers}

    def add(self, container: Container) -> Container:
        self.known[container.id] = container
        return container

    async def create(
        self, name: str, config: ContainerConfig, host: HostConfig, networking: NetworkingConfig | None, platform: str
    ) -> Created:
        if self.error is not None:
            raise self.error
        self.created = (config, host, networking)
        self.calls.append(("create", name))
        self.add(make_container(name or "quiet_curie", config=config, host_config=host, state=ContainerState()))
        return Created(id=CONTAINER_ID, warnings=("careful",) if name == "warned" else ())

    async def get(self, ref: str) -> Container:
        for one in self.known.values():
            if ref == one.name or one.id.startswith(ref):
                return one
        raise NotFound(f"No such container: {ref}")

    async def list(self, *, all: bool, filters: dict[str, list[str]], limit: int) -> list[Container]:  # noqa: A002
        self.calls.append(("list", (all, filters, limit)))
        return list(self.known.values())

    async def endpoints(self, container_id: str) -> dict[str, EndpointSettings]:
        return {
            "bridge": EndpointSettings(
                network_id=NETWORK_ID, endpoint_id="1" * 64, gateway="172.17.0.1", ip_address="172.17.0.2",
                ip_prefix_len=16, mac_address="02:42:ac:11:00:02",
            )
        }  # fmt: skip

    def sandbox_key(self, container: Container) -> str:
        return f"/run/netns/{container.id}"

    async def ports(self, container_id: str) -> dict[str, list[PortBinding] | None]:
        return {"80/tcp": [PortBinding(host_ip="0.0.0.0", host_port="8080")], "443/tcp": None}

    async def sizes(self, container_id: str) -> tuple[int, int]:
        return 10, 1000

    async def start(self, ref: str) -> None:
        container = await self.get(ref)
        self.calls.append(("start", ref))
        if self.error is not None:
            raise self.error
        if self.start_gate is not None:
            await self.start_gate.wait()
        container.state = ContainerState(status="running", pid=42, started_at=CREATED)
        if self.on_start is not None:
            self.on_start()
        self.calls.append(("started", ref))

    async def stop(self, ref: str, timeout: int | None, signal: str | None) -> None:
        await self.get(ref)
        self.calls.append(("stop", (timeout, signal)))
        if self.error is not None:
            raise self.error

    async def kill(self, ref: str, signal: str) -> None:
        self.calls.append(("kill", signal))

    async def remove(self, ref: str, *, force: bool, volumes: bool) -> None:
        container = await self.get(ref)
        if container.state.status == "running" and not force:
            raise Conflict(f'cannot remove container "{container.name}": container is running')
        del self.known[container.id]
        self.calls.append(("remove", (force, volumes)))

    async def prepare_wait(self, ref: str, condition: str) -> asyncio.Future[Exit]:
        await self.get(ref)
        self.calls.append(("wait", condition))
        if self.exit is None:
            self.exit = asyncio.get_running_loop().create_future()
        return self.exit

    async def attach(self, ref: str, request: AttachRequest) -> FakeProcess:
        self.calls.append(("attach", request))
        return self.process

    def detached(self, container: Container) -> None:
        self.calls.append(("detached", container.id))

    async def logs(self, ref: str, request: LogRequest) -> AsyncIterator[LogBatch]:
        self.calls.append(("logs", request))
        if self.lines:
            yield self.lines

    async def resize(self, ref: str, height: int, width: int) -> None:
        self.calls.append(("resize", (height, width)))

    async def top(self, ref: str, ps_args: str) -> tuple[list[str], list[list[str]]]:
        return ["PID", "CMD"], [["42", "server"]]

    async def prune(self, filters: dict[str, list[str]]) -> tuple[list[str], int]:
        return [CONTAINER_ID], 99


@dataclass
class FakeExecs:
    process: FakeProcess = field(default_factory=FakeProcess)
    state: ExecState | None = None
    missing: bool = False
    may_start: asyncio.Event | None = None
    calls: list[tuple[str, Any]] = field(default_factory=list)

    async def create(self, container: str, config: ExecConfig) -> str:
        self.state = ExecState(id="e" * 64, container_id=container, config=config)
        return self.state.id

    async def start(
        self, exec_id: str, *, detach: bool, tty: bool, console_size: tuple[int, int] | None
    ) -> FakeProcess | None:
        assert self.state is not None
        self.calls.append(("start", (detach, tty, console_size)))
        if self.may_start is not None:
            await self.may_start.wait()
        if self.missing:
            self.state.exit_code = 127
            raise ExecutableError("exec failed: no-such: executable file not found in $PATH", exit_code=127)
        self.state.exit_code = 7
        return None if detach else self.process

    def of_container(self, container_id: str) -> list[str]:
        return []

    async def resize(self, exec_id: str, height: int, width: int) -> None:
        self.calls.append(("resize", (height, width)))

    async def startable(self, exec_id: str) -> ExecState:
        return await self.inspect(exec_id)

    async def inspect(self, exec_id: str) -> ExecState:
        if self.state is None or self.state.id != exec_id:
            raise NotFound(f"No such exec instance: {exec_id}")
        return self.state


@dataclass(frozen=True)
class FakeImage:
    id: Digest
    config: ImageConfig
    tags: tuple[Reference, ...]
    size: int
    created: float
    diff_ids: tuple[Digest, ...]
    digests: tuple[Reference, ...] = ()
    tagged: float | None = 1_700_000_000.0


def make_image() -> FakeImage:
    config = ImageConfig(
        architecture="amd64",
        os="linux",
        created=CREATED,
        author="someone",
        config=ExecutionConfig(cmd=["sh"], env=["A=b"], exposed_ports={"80/tcp": {}}, labels={"k": "v"}),
        rootfs=RootFS(diff_ids=["sha256:" + "0" * 64]),
        history=[History(created=CREATED, created_by="COPY x /", comment="made here")],
    )
    tags = (Reference.parse("app:1"), Reference.parse("tare.local/debian:12"))
    return FakeImage(Digest(IMAGE_ID), config, tags, 12345, 1_700_000_000.0, (Digest("0" * 64),))


@dataclass
class FakeImages:
    image: FakeImage = field(default_factory=make_image)
    calls: list[tuple[str, Any]] = field(default_factory=list)

    async def list(
        self,
        all: bool,  # noqa: A002
        filters: dict[str, list[str]],
        *,
        shared_size: bool,
    ) -> list[ImageSummary]:
        self.calls.append(("list", (all, filters)))
        names = tuple(tag.familiar() for tag in self.image.tags)
        return [
            ImageSummary(
                id=str(self.image.id),
                tags=names,
                digests=(),
                created=CREATED,
                size=12345,
                shared_size=45 if shared_size else -1,
                labels={"k": "v"},
                containers=1,
            )
        ]

    async def get(self, ref: str, platform: Platform | None = None) -> FakeImage:
        self.calls.append(("platform", platform))
        if ref in ("app:1", "tare.local/debian:12", IMAGE_ID[:12], f"sha256:{IMAGE_ID}"):
            return self.image
        raise NotFound(f"No such image: {ref}")

    async def parent(self, image: FakeImage) -> str:
        return f"sha256:{'b' * 64}"

    async def lineage(self, image: FakeImage) -> list[FakeImage]:
        return [image]

    async def history(self, ref: str) -> list[tuple[History, int]]:
        return [(step, 3) for step in reversed(self.image.config.history)]

    async def tag(self, ref: str, repo: str, tag: str) -> None:
        self.calls.append(("tag", (ref, repo, tag)))

    async def remove(self, ref: str, force: bool, noprune: bool, platforms: Sequence[Platform]) -> list[dict[str, str]]:
        self.calls.append(("remove", tuple(platforms)))
        return [{"Untagged": "app:1"}, {"Deleted": f"sha256:{IMAGE_ID}"}]

    async def pull(
        self, reference: str, platform: str, progress: Callable[[dict[str, Any]], None], credentials: object
    ) -> None:
        self.calls.append(("pull", (reference, platform)))
        if "missing" in reference:
            raise NotFound(f"pull access denied for {reference}, repository does not exist")
        progress({"status": "Pulling", "id": reference})
        if "broken" in reference:
            raise Conflict("the archive changed while it was read")

    async def weigh(self, ref: str, *, depth: int) -> dict[str, Any]:
        await self.get(ref)
        return {"Id": str(self.image.id), "Size": 12345, "depth": depth}

    async def bill_of_materials(self, ref: str, kind: str) -> tuple[str, AsyncIterator[bytes]]:
        await self.get(ref)
        if kind == "odd":
            raise InvalidArgument("format 'odd'", code="sbom-format")

        async def pieces() -> AsyncIterator[bytes]:
            yield b'{"of":'
            yield f'"{ref}"}}'.encode()

        return f"application/{kind}", pieces()


@dataclass
class FakeBuilds:
    jobs: list[BuildJob] = field(default_factory=list)
    body: bytes = b""
    error: Exception | None = None
    hang: bool = False
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    async def build(self, job: BuildJob, observe: Callable[[BuildEvent], None]) -> BuildResult:
        self.jobs.append(job)
        if job.tar is not None:
            self.body = b"".join([chunk async for chunk in job.tar])
        steps = [
            PlannedStep(
                id=f"s{index}", index=index, total=2, stage="final", name=f"[{index}/2] {text}", text=text, layered=True
            )
            for index, text in ((1, "FROM base"), (2, "RUN make"))
        ]
        observe(PlanMade(tuple(steps)))
        observe(VertexStarted("s1", steps[0].name, "final", 1))
        observe(VertexDone(id="s1", index=1, cached=True, seconds=0.0, bytes=0, result="sha256:" + "1" * 64))
        observe(VertexStarted("s2", steps[1].name, "final", 2))
        observe(VertexOutput("s2", "stdout", b"making\n"))
        if self.hang:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        if self.error is not None:
            raise self.error
        observe(VertexDone(id="s2", index=2, cached=False, seconds=0.1, bytes=5, result="sha256:" + IMAGE_ID))
        observe(BuildFinished(Digest(IMAGE_ID), job.tags))
        return BuildResult(image_id=Digest(IMAGE_ID))


@dataclass
class FakeNetworks:
    calls: list[tuple[str, Any]] = field(default_factory=list)
    network: Network = field(
        default_factory=lambda: Network(
            id=NETWORK_ID,
            name="front",
            driver=Driver.BRIDGE,
            created=CREATED,
            subnets=(Subnet(subnet="172.18.0.0/16", gateway="172.18.0.1"),),
        )
    )

    async def create(self, asked: NetworkCreate) -> tuple[str, str]:
        self.calls.append(("create", asked))
        return NETWORK_ID, ""

    async def list(self, filters: dict[str, list[str]]) -> list[Network]:
        return [self.network]

    async def inspect(self, ref: str) -> NetworkDetails:
        if ref not in ("front", NETWORK_ID):
            raise NotFound(f"network {ref} not found")
        endpoint = Endpoint(
            id="1" * 64, network_id=NETWORK_ID, network_name="front", container_id=CONTAINER_ID, container_name="web",
            address="172.18.0.2", prefix_len=16, mac="02:42:ac:12:00:02",
        )  # fmt: skip
        return NetworkDetails(self.network, {CONTAINER_ID: ("web", endpoint)})

    async def remove(self, ref: str) -> None:
        self.calls.append(("remove", ref))

    async def connect(self, ref: str, container: str, settings: EndpointSettings | None) -> None:
        self.calls.append(("connect", (ref, container, settings)))

    async def disconnect(self, ref: str, container: str, force: bool) -> None:
        self.calls.append(("disconnect", (ref, container, force)))

    async def prune(self, filters: dict[str, list[str]]) -> list[str]:
        return ["front"]


class FakeVolumes:
    def __init__(self) -> None:
        self.names: list[str] = []

    def _volume(self, name: str) -> Volume:
        return Volume(
            name=name, driver="local", mountpoint=f"/data/{name}/_data", created=1_700_000_000.0, anonymous=False,
            options={}, labels={},
        )  # fmt: skip

    async def create(self, name: str, driver: str, options: dict[str, str], labels: dict[str, str]) -> Volume:
        self.names.append(name)
        return self._volume(name)

    async def list_with_warnings(self, filters: dict[str, list[str]]) -> tuple[Sequence[Volume], Sequence[str]]:
        return [self._volume(name) for name in self.names], []

    async def inspect(self, name: str) -> Volume:
        if name not in self.names:
            raise NotFound(f"get {name}: no such volume")
        return self._volume(name)

    async def remove(self, name: str, force: bool) -> None:
        self.names.remove(name)

    async def prune(self, filters: dict[str, list[str]]) -> tuple[list[str], int]:
        removed, self.names = self.names, []
        return removed, 5


class FakeBuildCache:
    def __init__(self) -> None:
        self.pruned: list[PruneCache] = []

    async def list(self, filters: Filters) -> list[CacheRecord]:
        step = CacheRecord(
            id="a1",
            type="regular",
            description="RUN make",
            size=70,
            created=5.0,
            last_used=6.5,
            uses=3,
            parents=("b2",),
        )
        records = [step, replace(step, id="b2", parents=(), size=40, shared=True, in_use=True)]
        return [record for record in records if record.id in filters.get("id", [record.id])]

    async def prune(self, request: PruneCache) -> Pruned:
        self.pruned.append(request)
        return Pruned(("a1",), 70)


class FakeSystem:
    async def info(self) -> SystemInfo:
        return SystemInfo(
            containers=1, running=1, paused=0, stopped=0, images=2, name="host", operating_system="Debian",
            kernel="6.1",
            architecture="x86_64", cpus=2, memory=1 << 30, data_root="/data", driver="unpacked", cgroup_version="1",
            runtime="runc", runtime_version="1.1.5", version="0.1.0", labels={}, warnings=(),
            runtimes={"runc": "/usr/sbin/runc", "other": "/opt/other"}, limits=LimitSupport(oom_kill_disable=False),
            security_modules=("apparmor",), init_binary="tini",
        )  # fmt: skip

    async def version(self) -> dict[str, str]:
        return {
            "version": "0.1.0", "runtime": "runc", "runtime_version": "1.1.5", "kernel": "6.1", "os": "linux",
            "architecture": "amd64",
        }  # fmt: skip

    async def df(self, types: Collection[str] = ()) -> dict[str, Any]:
        volume = await FakeVolumes().create("data", "local", {}, {})
        found = {
            "image": {"images": await FakeImages().list(all=True, filters={}, shared_size=True), "layers_size": 500},
            "container": {"containers": [(make_container(), (10, 1000), "app:1")]},
            "volume": {"volumes": [(volume, 77)]},
            "build-cache": {"build_cache": await FakeBuildCache().list({})},
        }
        return {
            name: value for kind, part in found.items() if not types or kind in types for name, value in part.items()
        }


class FakeLinks:
    async def of(self, container_id: str) -> list[Any]:
        return []

    async def names(self) -> dict[str, list[str]]:
        return {}


class FakeEngine:
    def __init__(self) -> None:
        self.containers = FakeContainers()
        self.links = FakeLinks()
        self.container_logs = self.containers
        self.execs = FakeExecs()
        self.images = FakeImages()
        self.builds = FakeBuilds()
        self.build_cache = FakeBuildCache()
        self.networks = FakeNetworks()
        self.volumes = FakeVolumes()
        self.events = Events()
        self.system = FakeSystem()
        self.paths = EnginePaths(Path("/data"), Path("/run/fake"))
