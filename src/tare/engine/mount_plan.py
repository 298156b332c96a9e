"""What ``-v``, ``--mount``, ``--tmpfs``, VOLUME and ``--volumes-from`` ask for, as one list of planned mounts.

Pure: nothing is looked up or made here. The grammar of ``-v`` is Docker's (``[source:]target[:options]``).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from tare.errors import InvalidArgument
from tare.model.container import Container, HostConfig, MountRequest

PROPAGATIONS = frozenset({"private", "rprivate", "shared", "rshared", "slave", "rslave"})
_MODES = PROPAGATIONS | {"ro", "rw", "z", "Z", "nocopy", "consistent", "cached", "delegated"}
_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedMount:
    """One mount of a container.

    ``source`` is a host path for binds, a volume name for volumes (empty: an anonymous one) and empty for tmpfs.
    ``options`` are tmpfs mount options. ``create_source`` makes a missing bind source, as ``-v`` does.
    """

    type: Literal["bind", "volume", "tmpfs"]
    source: str
    destination: str
    read_only: bool = False
    propagation: str = ""
    copy_up: bool = True
    create_source: bool = False
    driver: str = ""
    driver_options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    mode: str = ""
    subpath: str = ""
    options: tuple[str, ...] = ()


def plan_mounts(
    host: HostConfig,
    config_volumes: Iterable[str],
    image_volumes: Iterable[str],
    others: Mapping[str, Container],
) -> list[PlannedMount]:
    """All mounts, one per destination, parents before children.

    Explicit mounts win over ``--volumes-from`` (``others`` by reference), those over VOLUME. Raises InvalidArgument
    for what cannot be parsed and for two explicit mounts at one destination.
    """
    explicit: dict[str, PlannedMount] = {}
    for mount in _explicit(host):
        if mount.destination in explicit:
            raise InvalidArgument(f"Duplicate mount point: {mount.destination}")
        explicit[mount.destination] = mount
    planned = dict(explicit)
    for reference in host.volumes_from or []:
        for mount in _from_container(reference, others):
            planned.setdefault(mount.destination, mount)
    for destination in (*config_volumes, *image_volumes):
        target = _destination(destination)
        planned.setdefault(target, PlannedMount(type="volume", source="", destination=target))
    return sorted(planned.values(), key=lambda mount: (mount.destination.count("/"), mount.destination))


def _explicit(host: HostConfig) -> Iterable[PlannedMount]:
    for text in host.binds or []:
        yield replace(parse_bind(text), driver=host.volume_driver)
    for request in host.mounts or []:
        yield _from_request(request)
    for destination, options in (host.tmpfs or {}).items():
        yield PlannedMount(
            type="tmpfs",
            source="",
            destination=_destination(destination),
            options=tuple(option for option in options.split(",") if option),
        )


def parse_bind(text: str) -> PlannedMount:
    """Read one ``-v`` value, such as ``/src:/dst:ro`` or ``name:/dst``. Raises InvalidArgument in Docker's words."""
    parts = text.split(":")
    if len(parts) == 1:
        parts = ["", *parts]
    if len(parts) not in (2, 3) or not parts[1]:
        raise InvalidArgument(f"invalid volume specification: '{text}'", hint="write [SOURCE:]TARGET[:OPTIONS]")
    source, destination = parts[0], _destination(parts[1], text)
    modes = [mode for mode in (parts[2].split(",") if len(parts) == 3 else []) if mode]
    for mode in modes:
        if mode not in _MODES:
            raise InvalidArgument(f"invalid mode: {mode}", hint=f"one of {', '.join(sorted(_MODES))}")
    propagation = next((mode for mode in modes if mode in PROPAGATIONS), "")
    common = PlannedMount(
        type="volume", source=source, destination=destination, read_only="ro" in modes, mode=",".join(modes)
    )
    if source.startswith("/"):
        path = posixpath.normpath(source)
        return replace(common, type="bind", source=path, propagation=propagation or "rprivate", create_source=True)
    if source and not _VOLUME_NAME.fullmatch(source):
        raise InvalidArgument(
            f'create {source}: "{source}" includes invalid characters for a local volume name, '
            'only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )
    if propagation:
        raise InvalidArgument(f"invalid volume specification: '{text}': volumes have no propagation")
    return replace(common, copy_up="nocopy" not in modes)


def _from_request(request: MountRequest) -> PlannedMount:
    destination = _destination(request.target)
    if request.type == "bind":
        if not request.source.startswith("/"):
            raise InvalidArgument(
                'invalid mount config for type "bind": '
                f"invalid mount path: {request.source!r} mount path must be absolute"
            )
        options = request.bind_options or {}
        return PlannedMount(
            type="bind",
            source=posixpath.normpath(request.source),
            destination=destination,
            read_only=request.read_only,
            propagation=str(options.get("Propagation") or "rprivate"),
            create_source=bool(options.get("CreateMountpoint")),
        )
    if request.type == "volume":
        options = request.volume_options or {}
        driver = options.get("DriverConfig") or {}
        if request.source and not _VOLUME_NAME.fullmatch(request.source):
            raise InvalidArgument(f"invalid volume name: {request.source!r}")
        return PlannedMount(
            type="volume",
            source=request.source,
            destination=destination,
            read_only=request.read_only,
            copy_up=not options.get("NoCopy"),
            driver=str(driver.get("Name") or ""),
            driver_options=driver.get("Options") or {},
            labels=options.get("Labels") or {},
            subpath=str(options.get("Subpath") or ""),
            mode="z",
        )
    if request.type == "tmpfs":
        return PlannedMount(type="tmpfs", source="", destination=destination, options=_tmpfs_options(request))
    raise InvalidArgument(f"mount type {request.type!r} is not known", hint="use bind, volume or tmpfs")


def _tmpfs_options(request: MountRequest) -> tuple[str, ...]:
    options = request.tmpfs_options or {}
    words = []
    if size := options.get("SizeBytes"):
        words.append(f"size={int(size)}")
    if mode := options.get("Mode"):
        words.append(f"mode={int(mode):o}")
    if request.read_only:
        words.append("ro")
    return tuple(words)


def _from_container(reference: str, others: Mapping[str, Container]) -> Iterable[PlannedMount]:
    name, _, mode = reference.partition(":")
    if mode not in ("", "ro", "rw", "z"):
        raise InvalidArgument(f"invalid mode: {mode}")
    for point in others[name].mounts:
        if point.type not in ("bind", "volume"):
            continue
        yield PlannedMount(
            type="bind" if point.type == "bind" else "volume",
            source=point.source if point.type == "bind" else point.name,
            destination=point.destination,
            read_only=mode == "ro" or not point.rw,
            propagation=point.propagation,
            driver=point.driver,
            copy_up=False,
        )


def _destination(path: str, whole: str = "") -> str:
    if not path.startswith("/"):
        raise InvalidArgument(f"invalid mount path: '{path}' mount path must be absolute")
    clean = posixpath.normpath(path)
    if clean in ("/", "//"):
        raise InvalidArgument(f"invalid volume specification: '{whole or path}': destination can't be '/'")
    return clean
