"""Which OCI runtime works on this host: tried with a real container, remembered until something changes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import platform
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tare.base.atomic import write_atomic
from tare.errors import TareError, Unavailable
from tare.kernel import cgroups
from tare.runtime.host import HostFacts
from tare.runtime.oci_runtime import OciRuntime
from tare.runtime.spec import make_spec
from tare.runtime.spec_request import Resources, SpecMount, SpecRequest
from tare.runtime.view import without_v2

logger = logging.getLogger(__name__)

RUNTIMES = ("crun", "runc")
"""Tried in this order: crun starts containers faster, runc runs on more hosts."""
_SYSTEM_DIRECTORIES = ("/usr", "/bin", "/lib", "/lib64")


async def probe_runtimes(
    facts: HostFacts,
    root: Path,
    *,
    names: Sequence[str] = RUNTIMES,
    cache: Path | None = None,
    cgroup_parent: str = "/tare",
) -> OciRuntime:
    """The first of ``names`` (programs or paths) that can run a container here, with its state under ``root``.

    The answer is kept in the file ``cache`` until the program, the kernel or the cgroup layout changes. Raises
    Unavailable with every runtime's own words when none works.
    """
    reasons: list[str] = []
    known = await asyncio.to_thread(_load, cache)
    for name in names:
        path = shutil.which(name)
        if path is None:
            reasons.append(f"{name}: program not found")
            continue
        for view in _views(name, facts):
            runtime, key = OciRuntime(path, root / Path(name).name, view), _key(path, view, facts)
            if key not in known:
                known[key] = await _try(runtime, facts, cgroup_parent)
                if cache is not None:
                    await asyncio.to_thread(write_atomic, cache, json.dumps(known))
            if not known[key]:
                return runtime
            reasons.append(f"{name}: {known[key]}")
    raise Unavailable(
        f"no OCI runtime works on this host: {'; '.join(reasons)}", hint="run `tare doctor`", code="no-runtime"
    )


def _views(name: str, facts: HostFacts) -> list[tuple[str, ...]]:
    """How a runtime is tried: as it is, and crun on a hybrid host also without sight of cgroup v2."""
    restricted = without_v2(facts.cgroups) if Path(name).name == "crun" else ()
    return [(), restricted] if restricted else [()]


def _key(path: str, view: tuple[str, ...], facts: HostFacts) -> str:
    """What the answer depends on; size and time stand for the version, which would cost a process to ask."""
    status = Path(path).stat()
    words = (path, status.st_size, status.st_mtime_ns, platform.release(), facts.cgroups.kind, *view)
    return " ".join(map(str, words))


def _load(cache: Path | None) -> dict[str, str]:
    if cache is None:
        return {}
    try:
        document = json.loads(cache.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(document, dict):
        return {}
    return {str(key): str(value) for key, value in document.items()}


async def _try(runtime: OciRuntime, facts: HostFacts, cgroup_parent: str) -> str:
    """Run the host's own ``true`` in a container with limits; the empty string means that it worked."""
    container_id = f"probe-{secrets.token_hex(6)}"
    path = f"{cgroup_parent}/{container_id}"
    with tempfile.TemporaryDirectory(prefix="tare-probe-") as name, contextlib.ExitStack() as undo:
        bundle = Path(name)
        undo.callback(cgroups.remove_cgroup, facts.cgroups, path)
        spec = make_spec(_request(bundle / "rootfs", path), facts)
        await asyncio.to_thread(_write_bundle, bundle, json.dumps(spec))
        try:
            code = await runtime.run_once(bundle, container_id, lambda _stream, _data: None)
        except TareError as error:
            logger.info("%s does not work here: %s", runtime.path, error)
            return error.message
    return "" if code == 0 else f"the probe ended with exit code {code}"


def _request(rootfs: Path, cgroup_path: str) -> SpecRequest:
    directories = [directory for directory in _SYSTEM_DIRECTORIES if Path(directory).is_dir()]
    return SpecRequest(
        rootfs=rootfs,
        args=("true",),
        cgroup_path=cgroup_path,
        hostname="probe",
        readonly_rootfs=False,
        resources=Resources(memory=64 << 20, pids_limit=64),
        mounts=tuple(
            SpecMount(source=os.path.realpath(directory), destination=directory, options=("rbind", "ro"))
            for directory in directories
        ),
    )


def _write_bundle(bundle: Path, config: str) -> None:
    (bundle / "rootfs").mkdir()
    (bundle / "config.json").write_text(config)
