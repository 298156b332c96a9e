"""What ``-v``, ``--mount``, ``--tmpfs``, VOLUME and ``--volumes-from`` ask for, as one list of planned mounts.

Pure: nothing is looked up or made here. The grammar of ``-v`` is Docker's (``[source:]target[:options]``).
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tare.engine.id_maps import parse_idmap
from tare.errors import InvalidArgument
from tare.model.container import Container, HostConfig, MountDetail, MountRequest

PROPAGATIONS = frozenset({"private", "rprivate", "shared", "rshared", "slave", "rslave"})
_MODE_KINDS = {
    **dict.fromkeys(PROPAGATIONS, "propagation"),
    **dict.fromkeys(("ro", "rw"), "access"),
    **dict.fromkeys(("z", "Z"), "label"),
    **dict.fromkeys(("consistent", "cached", "delegated"), "consistency"),
    "nocopy": "copy",
}
_TMPFS_WORDS = frozenset(
    word
    for line in (
        "exec noexec suid nosuid dev nodev ro rw sync async dirsync atime noatime diratime nodiratime relatime",
        "norelatime strictatime nostrictatime mand nomand bind rbind private rprivate shared rshared slave rslave",
        "unbindable runbindable defaults mode uid gid nr_inodes nr_blocks size mpol",
    )
    for word in line.split()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedMount:
    """One mount of a container.

    ``source`` is a host path for binds, a volume name for volumes (empty: an anonymous one), an image's reference, and
    empty for tmpfs. ``options`` are tmpfs mount options. ``create_source`` makes a missing bind source, as ``-v`` does.
    ``listed`` is whether it is among a container's mounts for clients: those of ``--tmpfs`` are not, as in Docker. The
    rest is as in :class:`tare.model.container.MountDetail`.
    """

    type: Literal["bind", "volume", "tmpfs", "image"]
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
    listed: bool = True
    recursive: bool = True
    read_only_below: str = ""
    idmap: str | None = None


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
            options=_tmpfs_words(options),
            listed=False,
        )


def parse_bind(text: str) -> PlannedMount:
    """Read one ``-v`` value, such as ``/src:/dst:ro`` or ``name:/dst``. Raises InvalidArgument in Docker's words."""
    whole = f"invalid volume specification: '{text}'"
    parts = text.split(":")
    if len(parts) == 1:
        parts = ["", *parts]
    if len(parts) not in (2, 3) or not parts[1]:
        raise InvalidArgument(whole, hint="write [SOURCE:]TARGET[:OPTIONS]")
    kind: Literal["bind", "volume"] = "bind" if parts[0].startswith("/") else "volume"
    about = f'{whole}: invalid mount config for type "{kind}": '
    source, destination = parts[0], _destination(parts[1], about)
    modes = [mode for mode in (parts[2].split(",") if len(parts) == 3 else []) if mode]
    _check_modes(modes, parts[2] if len(parts) == 3 else "")
    propagation = next((mode for mode in modes if mode in PROPAGATIONS), "")
    common = PlannedMount(
        type="volume",
        source=source,
        destination=destination,
        read_only="ro" in modes,
        mode=",".join(modes) or ("z" if source and kind == "volume" else ""),
    )
    if kind == "bind":
        if "nocopy" in modes:
            raise InvalidArgument(f"{about}field VolumeOptions must not be specified")
        path = posixpath.normpath(source)
        return replace(common, type="bind", source=path, propagation=propagation or "rprivate", create_source=True)
    if propagation:
        raise InvalidArgument(f"{about}field BindOptions must not be specified")
    return replace(common, copy_up="nocopy" not in modes)


def _check_modes(modes: list[str], text: str) -> None:
    """One word of each kind at most, as in Docker."""
    kinds = [_MODE_KINDS.get(mode) for mode in modes]
    if None in kinds or len(set(kinds)) != len(kinds):
        raise InvalidArgument(f"invalid mode: {text}", hint=f"one of {', '.join(sorted(_MODE_KINDS))}")


def _from_request(request: MountRequest) -> PlannedMount:
    about = f'invalid mount config for type "{request.type}": '
    if request.type not in ("bind", "volume", "tmpfs", "image"):
        raise InvalidArgument(f"{about}mount type unknown", hint="use bind, volume, tmpfs or image")
    if not request.target:
        raise InvalidArgument(f"{about}field Target must not be empty")
    destination = _destination(request.target, about)
    for kind, name, options in (
        ("bind", "BindOptions", request.bind_options),
        ("volume", "VolumeOptions", request.volume_options),
        ("tmpfs", "TmpfsOptions", request.tmpfs_options),
        ("image", "ImageOptions", request.image_options),
    ):
        if options is not None and kind != request.type:
            raise InvalidArgument(f'{name} must not be specified on mount type "{request.type}"')
    if request.type in ("bind", "image") and not request.source:
        raise InvalidArgument(f"{about}field Source must not be empty")
    if request.type == "bind":
        return _bind_request(request, destination, about)
    if request.type == "volume":
        return _volume_request(request, destination, about)
    if request.type == "image":
        subpath = _subpath(str((request.image_options or {}).get("Subpath") or ""), about)
        return PlannedMount(
            type="image", source=request.source, destination=destination, read_only=True, copy_up=False, subpath=subpath
        )
    if request.source:
        raise InvalidArgument(f"{about}field Source must not be specified")
    return PlannedMount(type="tmpfs", source="", destination=destination, options=_tmpfs_options(request, about))


def _bind_request(request: MountRequest, destination: str, about: str) -> PlannedMount:
    if not request.source.startswith("/"):
        raise InvalidArgument(f"{about}invalid mount path: '{request.source}' mount path must be absolute")
    options = request.bind_options or {}
    propagation = str(options.get("Propagation") or "rprivate")
    if propagation not in PROPAGATIONS:
        raise InvalidArgument(f"{about}invalid propagation mode: {propagation}")
    never, force = bool(options.get("ReadOnlyNonRecursive")), bool(options.get("ReadOnlyForceRecursive"))
    if never and force:
        raise InvalidArgument(f"{about}ReadOnlyNonRecursive and ReadOnlyForceRecursive exclude each other")
    return PlannedMount(
        type="bind",
        source=posixpath.normpath(request.source),
        destination=destination,
        read_only=request.read_only,
        propagation=propagation,
        create_source=bool(options.get("CreateMountpoint")),
        recursive=not options.get("NonRecursive"),
        read_only_below="never" if never else "force" if force else "",
        idmap=_idmap(options),
    )


def _volume_request(request: MountRequest, destination: str, about: str) -> PlannedMount:
    options = request.volume_options or {}
    driver = options.get("DriverConfig") or {}
    subpath = _subpath(str(options.get("Subpath") or ""), about)
    if subpath and not request.source:
        raise InvalidArgument(f"{about}must not set Subpath when using anonymous volumes")
    return PlannedMount(
        type="volume",
        source=request.source,
        destination=destination,
        read_only=request.read_only,
        copy_up=not options.get("NoCopy"),
        driver=str(driver.get("Name") or ""),
        driver_options=driver.get("Options") or {},
        labels=options.get("Labels") or {},
        subpath=subpath,
        mode="z",
        idmap=_idmap(options),
    )


def _idmap(options: Mapping[str, Any]) -> str | None:
    text = options.get("IDMap")
    if text is None:
        return None
    parse_idmap(str(text))  # says now what is wrong with it
    return str(text)


def _subpath(text: str, about: str) -> str:
    if text.startswith("/") or ".." in posixpath.normpath(text).split("/"):
        raise InvalidArgument(f"{about}subpath must be a relative path within the volume", code="invalid-subpath")
    return posixpath.normpath(text) if text else ""


def _tmpfs_options(request: MountRequest, about: str) -> tuple[str, ...]:
    options = request.tmpfs_options or {}
    words = []
    for pair in options.get("Options") or []:
        word = "=".join(str(part) for part in pair)
        if word not in ("exec", "noexec"):
            raise InvalidArgument(f"{about}invalid option: {pair[0] if pair else ''}")
        words.append(word)
    if size := options.get("SizeBytes"):
        if int(size) < 0:
            raise InvalidArgument(f"{about}SizeBytes must not be negative: {size}")
        words.append(f"size={int(size)}")
    if mode := options.get("Mode"):
        words.append(f"mode={int(mode):o}")
    if request.read_only:
        words.append("ro")
    return tuple(words)


def _tmpfs_words(text: str) -> tuple[str, ...]:
    """Options of ``--tmpfs``, those that Docker knows."""
    words = tuple(word for word in text.split(",") if word)
    for word in words:
        if word.partition("=")[0] not in _TMPFS_WORDS:
            raise InvalidArgument(f'invalid tmpfs option "{word}"', code="invalid-tmpfs-option")
    return words


def _from_container(reference: str, others: Mapping[str, Container]) -> Iterable[PlannedMount]:
    name, _, mode = reference.partition(":")
    if mode not in ("", "ro", "rw", "z", "Z"):
        raise InvalidArgument(f"invalid mode: {mode}")
    for point in others[name].mounts:
        if point.type not in ("bind", "volume"):
            continue
        detail = others[name].mount_details.get(point.destination) or MountDetail()
        yield PlannedMount(
            type="bind" if point.type == "bind" else "volume",
            source=point.source if point.type == "bind" else point.name,
            destination=point.destination,
            read_only=mode == "ro" or not point.rw,
            propagation=point.propagation,
            driver=point.driver,
            copy_up=False,
            subpath=detail.subpath,
            recursive=detail.recursive,
            read_only_below=detail.read_only_below,
            idmap=detail.idmap,
        )


def _destination(path: str, about: str = "") -> str:
    if not path.startswith("/"):
        raise InvalidArgument(f"{about}invalid mount path: '{path}' mount path must be absolute")
    clean = posixpath.normpath(path)
    if clean in ("/", "//"):
        raise InvalidArgument(f"{about}invalid specification: destination can't be '/'")
    return clean
