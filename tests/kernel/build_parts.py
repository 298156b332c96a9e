"""What the builder's kernel tests stand on: a real executor (chroot over a mounted snapshot) and a base image."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from tare.base.shielding import finish
from tare.errors import Unsupported
from tare.model import Digest, Platform, Reference
from tare.model.assembly import Assembled, Assembly
from tare.model.execution import ExecRequest, Output
from tare.oci.image import ExecutionConfig, History, ImageConfig, RootFS
from tare.store.images import Image
from tare.store.store import Store

BASE = Reference.parse("test.local/base:1")

PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1500:1600:app:/home/app:/bin/sh\n"
GROUP = "root:x:0:\napp:x:1600:\nstaff:x:50:\n"


class ChrootExecutor:
    """Runs commands with chroot(8); mounts are bind mounts in the snapshot's own mount point."""

    def __init__(self, store: Store, directory: Path) -> None:
        self._store = store
        self._directory = directory
        self.commands: list[tuple[str, ...]] = []
        self.running = 0
        self.most_running = 0

    async def execute(self, request: ExecRequest, output: Output) -> int:
        root = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=self._directory))
        await self._store.snapshots.mount(request.snapshot, root)
        try:
            return await self._run(request, root, output)
        finally:
            await finish(self._release(root, request), what="test root")

    async def _release(self, root: Path, request: ExecRequest) -> None:
        for mount in request.mounts:
            subprocess.run(["umount", str(root) + mount.destination], check=False)
        await self._store.snapshots.unmount(root)
        root.rmdir()

    async def _run(self, request: ExecRequest, root: Path, output: Output) -> int:
        for mount in request.mounts:
            target = Path(str(root) + mount.destination)
            if mount.source.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.touch()
            subprocess.run(["mount", "--bind", str(mount.source), str(target)], check=True)
        self.commands.append(request.argv)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        env = dict(item.partition("=")[::2] for item in request.env)
        process = await asyncio.create_subprocess_exec(
            "chroot", str(root), "/bin/busybox", "sh", "-c", 'cd "$0" && exec "$@"', request.cwd, *request.argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**env, "PATH": os.environ["PATH"]},
            start_new_session=True,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(process.stdout, lambda data: output("stdout", data)))
                group.create_task(_pump(process.stderr, lambda data: output("stderr", data)))
            return await process.wait()
        finally:
            self.running -= 1
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()


async def _pump(stream: asyncio.StreamReader, write: Callable[[bytes], None]) -> None:
    while data := await stream.read(65536):
        write(data)


class LocalSources:
    """Images of the local store only."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.asked: list[str] = []

    async def resolve(
        self, reference: Reference, platform: Platform, progress: Callable[[str, str], None], *, refresh: bool = False
    ) -> Image:
        self.asked.append(reference.familiar())
        return await self._store.images.resolve(reference.familiar())

    async def assemble_packages(
        self, assembly: Assembly, platform: Platform, progress: Callable[[str, str], None], *, lease: str
    ) -> Assembled:
        raise Unsupported("nothing is assembled here")


def busybox() -> Path:
    """The static busybox, installed from the distribution where it is missing."""
    found = shutil.which("busybox")
    if found is None:
        subprocess.run(["apt-get", "install", "-y", "-q", "busybox-static"], check=True, capture_output=True)
        found = shutil.which("busybox")
    assert found is not None
    return Path(found)


async def make_base(
    store: Store, *, on_build: list[str] | None = None, tag: Reference = BASE, note: str = ""
) -> Digest:
    """A usr-merged image: busybox, users, /lib as a symbolic link, /tmp with the sticky bit, ``note`` in /etc/note."""

    def produce(sink: BinaryIO) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for name, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("usr", 0o755), ("usr/lib", 0o755)):
                _member(archive, name, tarfile.DIRTYPE, mode)
            _member(archive, "root", tarfile.DIRTYPE, 0o700)
            _member(archive, "lib", tarfile.SYMTYPE, 0o777, link="usr/lib")
            _member(archive, "etc/passwd", tarfile.REGTYPE, 0o644, data=PASSWD.encode())
            _member(archive, "etc/group", tarfile.REGTYPE, 0o644, data=GROUP.encode())
            if note:
                _member(archive, "etc/note", tarfile.REGTYPE, 0o644, data=note.encode())
            _member(archive, "bin/busybox", tarfile.REGTYPE, 0o755, data=busybox().read_bytes())
            for tool in ("sh", "cat", "echo", "mkdir", "touch", "sleep", "ls", "chmod", "rm", "stat", "date", "cp"):
                _member(archive, f"bin/{tool}", tarfile.SYMTYPE, 0o777, link="busybox")
        sink.write(buffer.getvalue())

    layer = await store.layers.write(produce)
    config = ImageConfig(
        architecture="amd64",
        os="linux",
        created="2024-01-01T00:00:00Z",
        config=ExecutionConfig(env=["PATH=/bin"], cmd=["/bin/sh"], on_build=on_build),
        rootfs=RootFS(diff_ids=[str(layer.diff_id)]),
        history=[History(created="2024-01-01T00:00:00Z", created_by="base")],
    )
    return await store.images.create(config, tag=tag)


def _member(archive: tarfile.TarFile, name: str, kind: bytes, mode: int, *, data: bytes = b"", link: str = "") -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname, info.size = kind, mode, link, len(data)
    archive.addfile(info, io.BytesIO(data))
