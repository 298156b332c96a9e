"""What callers ask of the engine and what they get back: frozen values."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from tare.build.request import OutputRequest, Ulimit
from tare.errors import Diagnosis
from tare.model.container import EndpointSettings
from tare.network.request import PoolRequest
from tare.registry.credentials import Credentials

Filters = Mapping[str, list[str]]
"""The Engine API's ``filters``: name to the accepted values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """A container that was made."""

    id: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a container ended; ``error`` is the engine's, not the program's."""

    code: int
    error: str = ""
    diagnosis: Diagnosis | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRequest:
    """Which log lines; ``since`` and ``until`` are RFC 3339 or seconds since the epoch, ``tail`` is -1 for all."""

    stdout: bool = True
    stderr: bool = True
    since: str = ""
    until: str = ""
    timestamps: bool = False
    tail: int = -1
    follow: bool = False
    details: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachRequest:
    """Which streams of a container to connect to; ``logs`` sends what was written before, ``stream`` what comes."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    logs: bool = False
    stream: bool = True
    detach_keys: str = ""


class Attachment(Protocol):
    """A connection to a process's streams.

    Iteration gives ``(stream, data)`` with 1 for standard output (and a terminal), 2 for standard error, and ends when
    the process has closed both. ``close`` detaches without ending the process; it is idempotent.
    """

    def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        """The output, in order per stream."""
        ...

    async def write(self, data: bytes) -> None:
        """Send bytes to standard input; waits while the process does not read."""
        ...

    async def close_stdin(self) -> None:
        """Send end of file."""
        ...

    def close(self) -> None:
        """Detach."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecConfig:
    """A command to run in a running container (API ``ExecConfig``)."""

    cmd: tuple[str, ...]
    user: str = ""
    privileged: bool = False
    tty: bool = False
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    detach_keys: str = ""
    env: tuple[str, ...] = ()
    working_dir: str = ""
    console_size: tuple[int, int] | None = None


@dataclass(slots=True, kw_only=True)
class ExecState:
    """An exec as the engine knows it; ``exit_code`` is None until it has ended."""

    id: str
    container_id: str
    config: ExecConfig
    running: bool = False
    pid: int = 0
    exit_code: int | None = None
    started: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSummary:
    """An image in a listing; ``containers`` counts the containers made from it.

    ``parent`` is the ID of the image that it was committed from. ``size`` in bytes, ``shared_size`` those of them in
    layers that other images have as well, -1 where nobody asked.
    """

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    parent: str = ""
    created: str | None
    size: int
    shared_size: int = -1
    labels: Mapping[str, str] | None
    containers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildJob:
    """A build as the API gets it: a context directory on this host, or a tar stream, or an address, or none of them.

    ``dockerfile_text`` is a Dockerfile that does not lie in the context; without a context it is all that there is.
    ``notes`` are warnings about the request itself. The other fields are those of
    :class:`tare.build.request.BuildRequest` before their texts are read. ``credentials`` are for the registries that
    base images come from, by domain.
    """

    context: Path | None = None
    tar: AsyncIterator[bytes] | None = None
    remote: str = field(default="", repr=False)
    notes: tuple[str, ...] = ()
    dockerfile: str = "Dockerfile"
    dockerfile_text: str | None = None
    tags: tuple[str, ...] = ()
    build_args: Mapping[str, str | None] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    no_cache: bool = False
    pull: bool = False
    network: str = ""
    extra_hosts: tuple[str, ...] = ()
    platform: str = ""
    shm_size: int = 0
    quiet: bool = False
    contexts: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    ssh: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    allow: tuple[str, ...] = ()
    no_cache_stages: tuple[str, ...] = ()
    outputs: tuple[OutputRequest, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    ulimits: tuple[Ulimit, ...] = ()
    check: bool = False
    describe: Literal["", "targets", "outline"] = ""
    plan_only: bool = False
    why: bool = False
    keep_failed: bool = False
    budget: int = 0
    lock_text: str | None = None
    update_lock: bool = False
    credentials: Mapping[str, Credentials] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkCreate:
    """A network to make; pools that are not given are chosen by the engine."""

    name: str
    driver: str = "bridge"
    pools: Sequence[PoolRequest] = ()
    ipv4: bool = True
    ipv6: bool = False
    internal: bool = False
    attachable: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    ipam_driver: str = "default"
    ipam_options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConnect:
    """A container's place on a network that it joins."""

    container: str
    settings: EndpointSettings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened (API ``EventMessage``); ``time_ns`` is in nanoseconds since the epoch."""

    type: str
    action: str
    actor_id: str
    attributes: Mapping[str, str]
    time_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpersistedData:
    """Files of a writable layer that look like data; ``size`` bytes, ``option`` would have kept them."""

    path: str
    kind: str
    size: int
    files: int
    option: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpersisted:
    """What is lost with a container, the largest first; ``complete`` unless there was too much to look at."""

    container: str
    data: list[UnpersistedData]
    auto_remove: bool = False
    complete: bool = True
