"""Runs build steps: a command in an active snapshot, isolated as a container is, with nothing of ours left in it."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tare.archive.confined import resolve_in_root
from tare.base.atomic import write_atomic
from tare.base.shielding import finish, to_end
from tare.engine.bundle import write_spec
from tare.engine.failures import explain_step
from tare.engine.paths import EnginePaths
from tare.engine.sandbox import remove_tree
from tare.errors import ExecutableError, InvalidArgument, TareError
from tare.kernel.mounts import mount_tmpfs, unmount_below
from tare.model import new_id
from tare.model.execution import ExecRequest, MemoryFile, Output, Tmpfs
from tare.network.service import NetworkService
from tare.runtime.host import HostFacts
from tare.runtime.oci_runtime import OciRuntime
from tare.runtime.spec import make_spec
from tare.runtime.spec_request import SpecMount, SpecRequest, SpecUlimit
from tare.runtime.users import resolve_user
from tare.store.store import Store

HOST_CA_BUNDLES = (
    Path("/etc/ssl/certs/ca-certificates.crt"),
    Path("/etc/pki/tls/certs/ca-bundle.crt"),
    Path("/etc/ssl/ca-bundle.pem"),
)
CA_INSIDE = "/dev/.tare/ca-certificates.crt"
"""In ``/dev``, which is a tmpfs of the step's own: the mount point leaves no trace in the snapshot."""

ROOT_NAME = "rootfs"

_BUNDLE_BYTES = 16 << 20  # most of a bundle in memory, without secret files

CA_VARIABLES = (
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
    "NPM_CONFIG_CAFILE",
    "GIT_SSL_CAINFO",
)
"""What OpenSSL, curl, Python requests, pip, Node, npm and git read."""


async def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class PreparedStep:
    """A command that is ready to be run: the runtime's name for it, and its bundle.

    ``created`` is to be awaited once the runtime has created it: what only that needed is let go. ``why_ended`` tells,
    when it has ended, what else has (empty: nothing).
    """

    id: str
    bundle: Path
    created: Callable[[], Awaitable[None]] = _nothing
    why_ended: Callable[[], str] = str


class StepExecutor:
    """The :class:`tare.model.execution.Executor` that builds and assembly use."""

    def __init__(
        self, *, store: Store, network: NetworkService, runtime: OciRuntime, facts: HostFacts, paths: EnginePaths
    ) -> None:
        self._store = store
        self._network = network
        self._runtime = runtime
        self._facts = facts
        self._paths = paths

    async def execute(self, request: ExecRequest, output: Output) -> int:
        """See the protocol."""
        async with self.prepared(request) as step:
            try:
                return await step_runtime(self._runtime, step.bundle).run_once(step.bundle, step.id, output)
            except ExecutableError as error:
                root = step.bundle / ROOT_NAME
                await asyncio.to_thread(explain_step, error, root, request, self._facts.architecture)
                raise

    @asynccontextmanager
    async def prepared(self, request: ExecRequest, *, terminal: bool = False) -> AsyncIterator[PreparedStep]:
        """Everything around the command that the runtime needs, for the length of the block; nothing stays afterwards.

        Whoever runs it ends it before the block does. Raises as the protocol's ``execute``.
        """
        step_id = new_id()
        bundle = self._paths.build_steps / step_id
        root = bundle / ROOT_NAME
        async with AsyncExitStack() as stack:
            await asyncio.to_thread(bundle.mkdir, parents=True)
            stack.push_async_callback(finish, asyncio.to_thread(remove_tree, bundle), what=f"bundle {bundle}")
            if request.confidential:  # the runtime's configuration has the environment
                stack.push_async_callback(finish, asyncio.to_thread(unmount_below, bundle), what=f"memory of {bundle}")
                await to_end(asyncio.to_thread(mount_tmpfs, bundle, size=_BUNDLE_BYTES))
            await asyncio.to_thread(root.mkdir)
            await self._store.snapshots.mount(request.snapshot, root)
            stack.push_async_callback(finish, self._store.snapshots.unmount(root), what=f"root of step {step_id[:12]}")
            namespace = await stack.enter_async_context(self._network_of(request, step_id))
            resolv = await self._resolv_conf(request)
            hosts = await self._hosts(request)
            files = await asyncio.to_thread(self._write_files, request, bundle, resolv, hosts)
            if request.files:
                files += await stack.enter_async_context(_in_memory(request.files, bundle / "memory"))
            files.sort(key=lambda mount: mount.destination.count("/"))  # what lies below another comes after it
            await stack.enter_async_context(_no_traces(root, [mount.destination for mount in files]))
            spec = await asyncio.to_thread(
                self._spec, request, step_id, root, namespace, tuple(files), terminal=terminal
            )
            await asyncio.to_thread(write_spec, bundle, spec)
            yield PreparedStep(step_id, bundle)

    @asynccontextmanager
    async def _network_of(self, request: ExecRequest, step_id: str) -> AsyncIterator[Path | None]:
        if request.network == "host":
            yield None
        elif request.network == "none":
            namespace = await self._network.create_sandbox(step_id)
            try:
                yield namespace
            finally:
                await finish(self._network.remove_sandbox(step_id), what=f"network of step {step_id[:12]}")
        else:
            async with self._network.build_sandbox(step_id) as namespace:
                yield namespace

    async def _resolv_conf(self, request: ExecRequest) -> str:
        if request.network == "none":
            return ""
        if request.network == "host":
            return await asyncio.to_thread(_read_if_there, Path("/etc/resolv.conf"))
        return await self._network.host_resolv_conf()

    async def _hosts(self, request: ExecRequest) -> list[str]:
        """The lines of ``/etc/hosts``."""
        hosts = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback", f"127.0.0.1\t{request.hostname}"]
        for item in request.extra_hosts:
            name, _, address = item.partition("=" if "=" in item else ":")
            if not name or not address:
                raise InvalidArgument(f'invalid extra host: "{item}"', hint="write NAME:ADDRESS")
            if address == "host-gateway":
                address = (await self._network.get_network("bridge")).gateway
            hosts.append(f"{address.strip('[]')}\t{name}")
        return hosts

    def _write_files(self, request: ExecRequest, bundle: Path, resolv: str, hosts: Sequence[str]) -> list[SpecMount]:
        write_atomic(bundle / "resolv.conf", resolv, durable=False)
        write_atomic(bundle / "hosts", "\n".join(hosts) + "\n", durable=False)
        mounts = [_bind(bundle / name, f"/etc/{name}", read_only=True) for name in ("resolv.conf", "hosts")]
        mounts += [_bind(item.source, item.destination, read_only=item.read_only) for item in request.mounts]
        return mounts + [_tmpfs(item) for item in request.tmpfs]

    def _spec(
        self,
        request: ExecRequest,
        step_id: str,
        root: Path,
        namespace: Path | None,
        mounts: tuple[SpecMount, ...],
        *,
        terminal: bool,
    ) -> dict[str, object]:
        user = resolve_user(root, request.user, ())
        env = list(request.env)
        if request.host_ca and (bundle := host_ca_bundle()) is not None:
            mounts = (*mounts, _bind(bundle, CA_INSIDE, read_only=True))
            names = {item.partition("=")[0] for item in env}
            env += [f"{name}={CA_INSIDE}" for name in CA_VARIABLES if name not in names]
        spec_request = SpecRequest(
            rootfs=root,
            args=request.argv,
            env=tuple(env),
            cwd=request.cwd,
            uid=user.uid,
            gid=user.gid,
            groups=tuple(user.groups),
            home=user.home,
            terminal=terminal,
            hostname=request.hostname,
            mounts=mounts,
            network_namespace=namespace,
            cgroup_path=f"{self._paths.cgroup_parent}/step-{step_id[:12]}",
            shm_size=request.shm_size,
            privileged=request.insecure,
            ulimits=tuple(SpecUlimit(name=item.name, soft=item.soft, hard=item.hard) for item in request.limits),
            annotations=dict(request.annotations),
        )
        return make_spec(spec_request, self._facts)


def step_runtime(runtime: OciRuntime, bundle: Path) -> OciRuntime:
    """The runtime with the state of a step in its bundle: runtimes keep the environment there, which may be secret."""
    return runtime.at(bundle / "state")


def host_ca_bundle() -> Path | None:
    """The host's CA certificates, where it has them."""
    return next((path for path in HOST_CA_BUNDLES if path.exists()), None)


def _read_if_there(path: Path) -> str:
    return path.read_text() if path.exists() else ""


@asynccontextmanager
async def _in_memory(files: Sequence[MemoryFile], place: Path) -> AsyncIterator[list[SpecMount]]:
    """Files on a tmpfs of their own, mounted one by one."""
    try:
        await to_end(asyncio.to_thread(_write_in_memory, files, place))
        yield [_shown(place / str(number), item) for number, item in enumerate(files)]
    finally:
        await finish(asyncio.to_thread(unmount_below, place), what=f"files in {place}")


def _write_in_memory(files: Sequence[MemoryFile], place: Path) -> None:
    place.mkdir(mode=0o700)
    mount_tmpfs(place, size=sum(len(item.data) for item in files) + (1 << 20))
    for number, item in enumerate(files):
        file = place / str(number)
        file.write_bytes(item.data)
        os.chown(file, item.uid, item.gid)
        file.chmod(item.mode)


def _shown(file: Path, item: MemoryFile) -> SpecMount:
    """Read-only; a file that is executable by nobody cannot be made so."""
    locked = () if item.mode & 0o111 else ("noexec",)
    options = ("bind", "rprivate", "ro", "nosuid", "nodev", *locked)
    return SpecMount(source=str(file), destination=item.destination, options=options)


def _tmpfs(item: Tmpfs) -> SpecMount:
    options = ("nosuid", *((f"size={item.size}",) if item.size else ()))
    return SpecMount(type="tmpfs", source="tmpfs", destination=item.destination, options=options)


def _bind(source: Path, destination: str, *, read_only: bool) -> SpecMount:
    options = ("rbind", "rprivate", "ro" if read_only else "rw")
    return SpecMount(type="bind", source=str(source), destination=destination, options=options)


@asynccontextmanager
async def _no_traces(root: Path, destinations: list[str]) -> AsyncIterator[None]:
    """Remove afterwards the mount points that the runtime has to make, and give their parents their times back."""
    missing = await asyncio.to_thread(_missing_points, root, destinations)
    try:
        yield
    finally:
        await finish(asyncio.to_thread(_remove_points, root, missing), what="mount points of a step")


def _missing_points(root: Path, destinations: list[str]) -> list[str]:
    """The paths, parents before children, that do not exist under ``root`` and will be made as mount points."""
    missing: list[str] = []
    for destination in (*destinations, "/proc", "/sys", "/dev"):
        parts = destination.strip("/").split("/")
        for count in range(1, len(parts) + 1):
            path = "/".join(parts[:count])
            try:
                exists = resolve_in_root(root, path).exists()
            except (TareError, OSError):
                exists = False
            if not exists and path not in missing:
                missing.append(path)
    return missing


def _remove_points(root: Path, missing: list[str]) -> None:
    for path in sorted(missing, key=len, reverse=True):
        parent = resolve_in_root(root, path.rpartition("/")[0])
        place = parent / path.rpartition("/")[2]
        try:
            info = place.lstat()
        except FileNotFoundError:
            continue
        before = parent.stat()
        if stat.S_ISDIR(info.st_mode):
            if any(place.iterdir()):
                continue  # the command put something there: it is part of the result
            place.rmdir()
        elif stat.S_ISREG(info.st_mode) and info.st_size == 0:
            place.unlink()
        os.utime(parent, ns=(before.st_atime_ns, before.st_mtime_ns))
