"""Runs build steps: a command in an active snapshot, isolated as a container is, with nothing of ours left in it."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tare.archive.confined import resolve_in_root
from tare.base.atomic import write_atomic
from tare.base.shielding import finish
from tare.engine.bundle import write_spec
from tare.engine.paths import EnginePaths
from tare.engine.sandbox import remove_tree
from tare.errors import TareError
from tare.model import new_id
from tare.model.execution import ExecRequest, Output
from tare.network.service import NetworkService
from tare.runtime.host import HostFacts
from tare.runtime.oci_runtime import OciRuntime
from tare.runtime.spec import make_spec
from tare.runtime.spec_request import SpecMount, SpecRequest
from tare.runtime.users import resolve_user
from tare.store.store import Store

HOST_CA_BUNDLES = (
    Path("/etc/ssl/certs/ca-certificates.crt"),
    Path("/etc/pki/tls/certs/ca-bundle.crt"),
    Path("/etc/ssl/ca-bundle.pem"),
)
CA_INSIDE = "/dev/.tare/ca-certificates.crt"
"""In ``/dev``, which is a tmpfs of the step's own: the mount point leaves no trace in the snapshot."""

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
        step_id = new_id()
        bundle = self._paths.build_steps / step_id
        root = bundle / "rootfs"
        async with AsyncExitStack() as stack:
            await asyncio.to_thread(root.mkdir, parents=True)
            stack.push_async_callback(finish, asyncio.to_thread(remove_tree, bundle), what=f"bundle {bundle}")
            await self._store.snapshots.mount(request.snapshot, root)
            stack.push_async_callback(finish, self._store.snapshots.unmount(root), what=f"root of step {step_id[:12]}")
            namespace = await stack.enter_async_context(self._network_of(request, step_id))
            resolv = await self._resolv_conf(request)
            files = await asyncio.to_thread(self._write_files, request, bundle, resolv)
            await stack.enter_async_context(_no_traces(root, [mount.destination for mount in files]))
            spec = await asyncio.to_thread(self._spec, request, step_id, root, namespace, tuple(files))
            await asyncio.to_thread(write_spec, bundle, spec)
            return await self._runtime.run_once(bundle, step_id, output)

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

    def _write_files(self, request: ExecRequest, bundle: Path, resolv: str) -> list[SpecMount]:
        hosts = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback", f"127.0.0.1\t{request.hostname}"]
        for item in request.extra_hosts:
            name, _, address = item.partition("=" if "=" in item else ":")
            hosts.append(f"{address}\t{name}")
        write_atomic(bundle / "resolv.conf", resolv, durable=False)
        write_atomic(bundle / "hosts", "\n".join(hosts) + "\n", durable=False)
        mounts = [_bind(bundle / name, f"/etc/{name}", read_only=True) for name in ("resolv.conf", "hosts")]
        mounts += [_bind(item.source, item.destination, read_only=item.read_only) for item in request.mounts]
        mounts += [SpecMount(type="tmpfs", source="tmpfs", destination=place) for place in request.tmpfs]
        return mounts

    def _spec(
        self, request: ExecRequest, step_id: str, root: Path, namespace: Path | None, mounts: tuple[SpecMount, ...]
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
            hostname=request.hostname,
            mounts=mounts,
            network_namespace=namespace,
            cgroup_path=f"{self._paths.cgroup_parent}/step-{step_id[:12]}",
            shm_size=request.shm_size,
            annotations=dict(request.annotations),
        )
        return make_spec(spec_request, self._facts)


def host_ca_bundle() -> Path | None:
    """The host's CA certificates, where it has them."""
    return next((path for path in HOST_CA_BUNDLES if path.exists()), None)


def _read_if_there(path: Path) -> str:
    return path.read_text() if path.exists() else ""


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
