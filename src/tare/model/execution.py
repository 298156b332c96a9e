"""How the builder and the assembler ask for a command to be run in a root file system that is being made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

Output = Callable[[Literal["stdout", "stderr"], bytes], None]
"""Receives output as it comes; called on the event loop, must not block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BindMount:
    """A host file or directory seen inside."""

    source: Path
    destination: str
    read_only: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Tmpfs:
    """A tmpfs seen inside; ``size`` in bytes, 0 for the kernel's default."""

    destination: str
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFile:
    """A file seen inside, read-only, that is never on a disk (a secret, a script)."""

    destination: str
    data: bytes = field(repr=False)
    mode: int = 0o400
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A resource limit by Docker's name (``nofile``); -1 is unlimited."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecRequest:
    """One command in one active snapshot (see ``store.snapshotter``).

    ``env`` holds ``NAME=value`` strings, ``user`` is a Dockerfile's (name, id, with or without group), ``network``
    is ``default`` (NAT to the outside), ``none`` or ``host``. With ``host_ca`` the host's CA bundle is mounted and
    named in the environment variables that TLS clients read, where they are not set. Neither that nor
    ``resolv.conf``, ``hosts`` or any mount point that had to be made leaves a trace in the snapshot. ``insecure`` runs
    with all capabilities, devices and without seccomp filter. ``confidential``: nothing of ``env`` may reach a disk.
    """

    snapshot: str
    argv: tuple[str, ...]
    env: tuple[str, ...] = field(default=(), repr=False)
    confidential: bool = False
    cwd: str = "/"
    user: str = ""
    network: Literal["default", "none", "host"] = "default"
    hostname: str = "buildkitsandbox"
    mounts: tuple[BindMount, ...] = ()
    tmpfs: tuple[Tmpfs, ...] = ()
    files: tuple[MemoryFile, ...] = ()
    limits: tuple[Limit, ...] = ()
    insecure: bool = False
    extra_hosts: tuple[str, ...] = ()
    host_ca: bool = True
    shm_size: int = 64 << 20
    annotations: dict[str, str] = field(default_factory=dict)


class Executor(Protocol):
    """Runs commands in active snapshots, isolated as a container is."""

    async def execute(self, request: ExecRequest, output: Output) -> int:
        """Run to the end; returns the exit code (128 + signal when killed).

        Cancelling ends the command and undoes every mount. Raises NotFound for the snapshot, ExecutableError when the
        command cannot be executed, InternalError when the runtime fails.
        """
        ...
