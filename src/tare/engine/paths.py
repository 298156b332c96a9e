"""Where an engine keeps things, and what its kernel objects are called."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

DEFAULT_DATA_ROOT = Path("/var/lib/tare")
DEFAULT_RUN_ROOT = Path("/run/tare")


@dataclass(frozen=True, slots=True)
class EnginePaths:
    """The directories of one engine (design: "On disk")."""

    data_root: Path
    run_root: Path

    @property
    def instance(self) -> str:
        """Empty for the default engine, else six hex digits that tell this engine's kernel objects from others'."""
        if self.data_root == DEFAULT_DATA_ROOT:
            return ""
        return hashlib.sha256(str(self.data_root).encode()).hexdigest()[:6]

    @property
    def cgroup_parent(self) -> str:
        """The cgroup under which every container of this engine lives."""
        return f"/tare-{self.instance}" if self.instance else "/tare"

    def container(self, container_id: str) -> Path:
        """Bundle, log and generated files of a container; survives restarts."""
        return self.data_root / "containers" / container_id

    def rootfs(self, container_id: str) -> Path:
        """Where a container's root file system is mounted while it runs."""
        return self.run_root / "rootfs" / container_id

    def isolation(self, container_id: str) -> Path:
        """What a running container has of its own on the host: user namespace, shared memory, id-mapped mounts."""
        return self.run_root / "isolation" / container_id

    def log(self, container_id: str) -> Path:
        """A container's log, in conmon's k8s-file format."""
        return self.container(container_id) / "container.log"

    @property
    def volumes(self) -> Path:
        """The local driver's volumes."""
        return self.data_root / "volumes"

    @property
    def cache(self) -> Path:
        """Downloaded packages, build cache mounts."""
        return self.data_root / "cache"

    @property
    def build_steps(self) -> Path:
        """Bundles of running build steps; what is there at start is left from a crash."""
        return self.run_root / "steps"
