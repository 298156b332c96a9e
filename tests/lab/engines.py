"""Engines inside the lab: Tare, and a real Docker; both are spoken to over the Engine API."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from engine_process import CHECKOUT, EngineProcess, busybox_rootfs
from lab import scene, topology

REFERENCE = CHECKOUT / ".tools" / "reference-docker"
START_SECONDS = 60
STOP_SECONDS = 60
CGROUP = "docker-lab"

# /sys shows the namespace in which it was mounted, so an engine in a namespace needs a /sys of its own; its mounts end
# with it.
_ENTER = """
mount -t tmpfs none "$0"
mkdir "$0/cgroup"
mount --rbind /sys/fs/cgroup "$0/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$0/cgroup" /sys/fs/cgroup
umount -l "$0"
mount --bind "$0.conf" /etc/resolv.conf
exec "$@"
"""


def inside(namespace: Path, scratch: Path, command: list[str]) -> list[str]:
    """``command`` in a network namespace, with a mount namespace, a /sys and a resolv.conf of its own.

    The process stays the same.
    """
    Path(f"{scratch}.conf").write_text(f"nameserver {topology.WAN}\n")
    return [
        "nsenter", f"--net={namespace}", "unshare", "--mount", "--propagation", "slave",
        "sh", "-euc", _ENTER, str(scratch), *command,
    ]  # fmt: skip


class TareProcess(EngineProcess):
    """``tared`` in a network namespace; started again it finds its mounts."""

    namespace: Path
    mounts: int = -1
    """The descriptor of its mount namespace, once it has one."""

    def start(self) -> None:
        """Start it, and keep the mount namespace that it made."""
        super().start()
        if self.mounts < 0:
            self.mounts = os.open(f"/proc/{self.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    def command(self) -> list[str]:
        """How the engine is started."""
        if self.mounts >= 0:
            mounts = f"/proc/{os.getpid()}/fd/{self.mounts}"
            return ["nsenter", f"--net={self.namespace}", f"--mount={mounts}", *super().command()]
        scratch = self.root / "scratch"
        scratch.mkdir(exist_ok=True)
        return inside(self.namespace, scratch, super().command())


@contextlib.contextmanager
def tare(namespace: Path) -> Iterator[TareProcess]:
    """Tare in ``namespace``; gone after the block, with all it has made."""
    engine = TareProcess(Path(tempfile.mkdtemp(prefix="tare-t")))
    engine.namespace = namespace
    (engine.root / "config").mkdir()
    settings = engine.root / "tare.toml"
    bridge = scene.NETWORKS[0]
    settings.write_text(
        f'[network]\ndefault_subnet = "{bridge.subnet}"\nipv6 = true\ndefault_subnet6 = "{bridge.subnet6}"\n'
    )
    engine.arguments = ("--config", str(settings))
    engine.start()
    try:
        engine.import_busybox(busybox_rootfs())
        yield engine
        engine.remove_containers()
    finally:
        engine.stop()
        os.close(engine.mounts)


@contextlib.contextmanager
def docker(namespace: Path) -> Iterator[str]:
    """A Docker 28.5.2 in ``namespace``, with the image ``busybox``: its address; gone after the block.

    ``scripts/reference-docker.sh fetch`` gets it.
    """
    assert (REFERENCE / "root/usr/sbin/dockerd").exists(), "no Docker: run scripts/reference-docker.sh fetch"
    root = Path(tempfile.mkdtemp(prefix="docker-lab"))
    (root / "scratch").mkdir()
    address = f"unix://{root}/s"
    command = [
        "dockerd", "--data-root", f"{root}/data", "--exec-root", f"{root}/exec", "--pidfile", f"{root}/pid",
        "--host", address, "--cgroup-parent", f"/{CGROUP}", "--exec-opt", "native.cgroupdriver=cgroupfs",
        "--bip", scene.BRIDGE_ADDRESS, "--ipv6", "--fixed-cidr-v6", scene.NETWORKS[0].subnet6,
        "--default-address-pool", "base=10.202.0.0/16,size=24",
    ]  # fmt: skip
    programs = [REFERENCE / "root" / part for part in ("usr/sbin", "usr/bin", "usr/libexec/docker")]
    path = ":".join([*map(str, programs), os.environ["PATH"], str(REFERENCE / "firewall/bin")])
    environment = os.environ | {"PATH": path, "NOTIFY_SOCKET": f"{root}/ready"}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, (root / "log").open("wb") as log:
        ready.bind(f"{root}/ready")
        ready.settimeout(START_SECONDS)
        started = inside(namespace, root / "scratch", command)
        process = subprocess.Popen(started, env=environment, stdout=log, stderr=log)
        try:
            while b"READY=1" not in ready.recv(4096):
                pass
            _docker(address, "import", "-", "busybox:latest", stdin=busybox_rootfs())
            try:
                yield address
            finally:
                _docker(address, "rm", "-f", *_docker(address, "ps", "-aq").split())
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_SECONDS)
    shutil.rmtree(root)
    for hierarchy in Path("/sys/fs/cgroup").iterdir():
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            (hierarchy / CGROUP).rmdir()


def _docker(address: str, *arguments: str, stdin: bytes = b"") -> str:
    command = [str(REFERENCE / "root/usr/bin/docker"), "-H", address, *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout.decode()
