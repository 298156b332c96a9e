"""A small executor over runc for tests of the assembler: real isolation, no network."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from tare.model.execution import ExecRequest, Output
from tare.store.store import Store

_NAMES = (
    "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP SETUID",
    "SYS_CHROOT",
)
CAPABILITIES = [f"CAP_{name}" for line in _NAMES for name in line.split()]


class RuncExecutor:
    """Implements ``tare.model.execution.Executor``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.requests: list[ExecRequest] = []

    async def execute(self, request: ExecRequest, output: Output) -> int:
        self.requests.append(request)
        with tempfile.TemporaryDirectory(prefix="distroless-step-") as name:
            root = Path(name, "rootfs")
            root.mkdir()
            await self._store.snapshots.mount(request.snapshot, root)
            try:
                status, data = await run_in(root, request.argv, env=request.env)
                output("stdout", data)
                return status
            finally:
                await self._store.snapshots.unmount(root)


async def run_in(
    root: Path, argv: Sequence[str], *, env: Sequence[str] = (), user: int = 0, host_network: bool = False
) -> tuple[int, bytes]:
    """Run ``argv`` with ``root`` as its root file system; gives exit status and output."""
    namespaces = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]
    if not host_network:
        namespaces.append({"type": "network"})
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]},
    ]
    if host_network:
        mounts.append(
            {"destination": "/etc/resolv.conf", "type": "bind", "source": "/etc/resolv.conf", "options": ["bind", "ro"]}
        )
    spec = {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": user, "gid": user},
            "args": list(argv),
            "env": list(env) or ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
        },
        "root": {"path": str(root)},
        "hostname": "localhost",
        "mounts": mounts,
        "linux": {"namespaces": namespaces},
    }
    with tempfile.TemporaryDirectory(prefix="distroless-bundle-") as bundle:
        Path(bundle, "config.json").write_text(json.dumps(spec))
        process = await asyncio.create_subprocess_exec(
            "runc",
            "--root",
            f"{bundle}/state",
            "run",
            "--bundle",
            bundle,
            f"distroless-{uuid4().hex}",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        data, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, data
