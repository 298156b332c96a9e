"""A tool image beside a container or image: its programs run in the other one's namespaces and see its files.

The tools have a root file system of their own, a throw-away copy of the tool image, and so do not depend on what the
target has; the target's root is at ``/target``. Of a running container's process they join the namespaces for
processes, network, IPC, host name and users, and are in a control group of their own: what they use is not the
target's.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tare.archive.confined import resolve_in_root
from tare.base.atomic import write_atomic
from tare.base.shielding import finish, to_end
from tare.engine.bundle import clear_bundle, write_spec
from tare.engine.executor import ROOT_NAME, PreparedStep
from tare.engine.images import Images
from tare.engine.isolation import check_ids, check_reachable
from tare.engine.paths import EnginePaths
from tare.engine.shells import PIPES, Streams
from tare.engine.targets import Shown, Target, Targets, Visitor
from tare.errors import ExecutableError, InvalidArgument, NotFound, TareError
from tare.kernel.joining import ProcessNamespaces
from tare.kernel.mounts import restrictions, unmount, unmount_below
from tare.kernel.namespaces import create_user_and_network_namespace
from tare.model import Platform, Reference, new_id
from tare.model.container import IdRange
from tare.network.service import NetworkService
from tare.runtime.host import HostFacts
from tare.runtime.spec import DEFAULT_PATH, make_spec
from tare.runtime.spec_request import SpecMount, SpecRequest
from tare.runtime.users import UserIds, resolve_user
from tare.store.images import Image
from tare.store.store import Store

TARGET = "/target"
"""Where the tools see the target's root file system."""
TARGET_NAME = "target"

DEFAULT_TOOLS = "tare.local/distroless/static:debug"
SHELLS = ("/bin/bash", "/usr/bin/bash", "/bin/sh", "/usr/bin/sh", "/busybox/sh")
_WITHHELD = frozenset({"PATH", "HOME", "HOSTNAME", "TERM", "PWD", "SHELL", "ENV", "BASH_ENV"})
"""Variables of the target that are about its own root file system, or would run something when a shell starts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRequest:
    """What to run beside a target: ``command``, ``script`` for the shell, or a shell.

    Empty ``image`` is the configured tool image, empty ``user`` root, empty ``shell`` the tool image's own.
    ``write`` makes the target's files writable. ``env`` holds ``NAME=value`` strings.
    """

    command: tuple[str, ...] = ()
    script: str = ""
    shell: str = ""
    image: str = ""
    user: str = ""
    env: tuple[str, ...] = ()
    write: bool = False
    privileged: bool = False
    cap_add: tuple[str, ...] = ()
    streams: Streams = PIPES


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A session that is being prepared: its identifier, bundle, and the two root file systems in it."""

    id: str
    bundle: Path
    tools: Image

    @property
    def root(self) -> Path:
        return self.bundle / ROOT_NAME

    @property
    def target(self) -> Path:
        return self.bundle / TARGET_NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class _Around:
    """Namespaces of a session that has none to join, and its files in ``/etc`` by their places."""

    network: Path | None
    users: Path | None
    files: dict[str, Path]


class Tools:
    """Prepares tool images beside targets; ``image`` is the one that is used when none is named."""

    def __init__(
        self,
        *,
        store: Store,
        images: Images,
        network: NetworkService,
        targets: Targets,
        facts: HostFacts,
        paths: EnginePaths,
        image: str,
    ) -> None:
        self._store = store
        self._images = images
        self._network = network
        self._targets = targets
        self._facts = facts
        self._paths = paths
        self.image = image

    @asynccontextmanager
    async def prepared(self, target: Target, asked: ToolRequest, visitor: Visitor) -> AsyncIterator[PreparedStep]:
        """What runs ``asked`` beside ``target``, for the length of the block; nothing stays afterwards.

        Raises NotFound, InvalidArgument, Conflict, ExecutableError for a tool image without a shell.
        """
        session_id = new_id()
        bundle = self._paths.build_steps / session_id
        async with AsyncExitStack() as stack:
            lease = await stack.enter_async_context(self._store.leases.hold())
            image = await self._find_image(asked.image, lease)
            place = _Place(id=session_id, bundle=bundle, tools=image)
            stack.push_async_callback(finish, asyncio.to_thread(clear_bundle, bundle), what=f"bundle {bundle}")
            await to_end(asyncio.to_thread(_make_directories, place))
            ids = target.container.ids if target.container is not None else None
            await self._mount_tools(place, ids, stack)
            shown = await stack.enter_async_context(
                self._targets.shown(target, place.target, visitor, write=asked.write)
            )
            around = await self._surround(target, place, shown, stack)
            request = await asyncio.to_thread(_request, target, asked, place, shown, around)
            spec = make_spec(self._in_cgroup(request, session_id), self._facts)
            await asyncio.to_thread(write_spec, bundle, spec)
            yield PreparedStep(session_id, bundle, lambda: _let_go(place), lambda: _why_ended(target, shown))

    async def _find_image(self, name: str, lease: str) -> Image:
        """The tool image, assembled when it is one of ``tare.local`` that is not here; held by ``lease``."""
        wanted = name or self.image
        try:
            image = await self._store.images.resolve(wanted)
        except NotFound:
            try:
                image = await self._images.resolve_or_pull(Reference.parse(wanted), Platform.host())
            except TareError as error:
                hint = error.hint if name else "name another with --image, or in the configuration: debug.image"
                raise type(error)(f"tool image {wanted}: {error.message}", hint=hint, code="no-tool-image") from error
        await self._store.leases.add(lease, "image", str(image.id))
        return image

    async def _mount_tools(self, place: _Place, ids: IdRange | None, stack: AsyncExitStack) -> None:
        snapshots = self._store.snapshots
        lowers = [await snapshots.ensure_layer(diff_id) for diff_id in place.tools.diff_ids]
        stack.push_async_callback(finish, snapshots.remove(place.id), what=f"tools of session {place.id[:12]}")
        await to_end(snapshots.prepare(place.id, lowers))
        stack.push_async_callback(finish, snapshots.unmount(place.root), what=f"tools at {place.root}")
        await to_end(snapshots.mount(place.id, place.root, None if ids is None else (ids.first, ids.size)))
        if ids is not None:
            await asyncio.to_thread(check_reachable, place.root)

    async def _surround(self, target: Target, place: _Place, shown: Shown, stack: AsyncExitStack) -> _Around:
        """A network, resolv.conf and hosts: the running container's own, else as build steps have them."""
        if shown.namespaces is not None:
            return _Around(network=shown.namespaces.path("net"), users=shown.namespaces.path("user"), files=shown.files)
        ids = target.container.ids if target.container is not None else None
        users: Path | None = None
        if ids is not None:
            users, network = place.bundle / "userns", place.bundle / "netns"
            stack.push_async_callback(finish, asyncio.to_thread(_release, users, network), what=f"namespaces {users}")
            await to_end(asyncio.to_thread(create_user_and_network_namespace, users, network, ids.first, ids.size))
        else:
            network = await stack.enter_async_context(self._network.build_sandbox(place.id))
        resolv = await self._network.host_resolv_conf()
        hosts = f"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.0.1\t{_hostname(target)}\n"
        files = await asyncio.to_thread(_write_files, place.bundle, {"resolv.conf": resolv, "hosts": hosts})
        return _Around(network=network, users=users, files=files)

    def _in_cgroup(self, request: SpecRequest, session_id: str) -> SpecRequest:
        return replace(request, cgroup_path=f"{self._paths.cgroup_parent}/debug-{session_id[:12]}")


def environment(tools: Sequence[str], target: Sequence[str], asked: Sequence[str]) -> tuple[str, ...]:
    """The session's variables: those of the target, of the tool image over them, and what was asked for over both.

    The search path has the tool image's directories first, then the target's as they are seen below ``/target``. What
    would make the tools load files of the target (``LD_…``) is left out.
    """
    values = {
        name: value for name, value in _pairs(target).items() if name not in _WITHHELD and not name.startswith("LD_")
    }
    own = _pairs(tools)
    values |= own
    default = DEFAULT_PATH.partition("=")[2]
    theirs = [part for part in _pairs(target).get("PATH", default).split(":") if part.startswith("/")]
    values["PATH"] = ":".join([own.get("PATH") or default, *(f"{TARGET}{part}" for part in theirs)])
    values |= _pairs(asked)
    return tuple(f"{name}={value}" for name, value in values.items())


def _pairs(env: Sequence[str]) -> dict[str, str]:
    return {name: value for name, equals, value in (item.partition("=") for item in env) if equals}


def command_of(asked: ToolRequest, image: Image, root: Path) -> tuple[str, ...]:
    """What is executed: the command that was asked for, else a shell, with the script if there is one.

    The shell is the one asked for, else what the tool image starts with if that is one, else the first of
    :data:`SHELLS` that is in ``root``. Raises ExecutableError when there is none.
    """
    if asked.command:
        return asked.command
    shell = asked.shell or _own_shell(image) or next((path for path in SHELLS if _is_program(root, path)), "")
    if not shell:
        name = image.tags[0].familiar() if image.tags else str(image.id)
        raise ExecutableError(
            f"tool image {name} has no shell",
            exit_code=127,
            hint="name one with --shell, another image with --image, or a command that the image has",
            code="no-shell",
        )
    return (shell, "-c", asked.script) if asked.script else (shell,)


def _own_shell(image: Image) -> str:
    """What the image starts with, when that is a shell."""
    config = image.config.config
    words = [*(config.entrypoint or ()), *(config.cmd or ())]
    return words[0] if len(words) == 1 and words[0].endswith("sh") else ""


def _is_program(root: Path, path: str) -> bool:
    try:
        place = resolve_in_root(root, path)
        return place.is_file() and os.access(place, os.X_OK)
    except (TareError, OSError):
        return False


def _user(asked: str, place: _Place) -> UserIds:
    """Who the tools run as: a name is the target's, else the tool image's; the home directory is the tool image's."""
    wanted = asked or "0"
    try:
        found = resolve_user(place.target, wanted)
    except InvalidArgument:
        try:
            return resolve_user(place.root, wanted)
        except InvalidArgument as error:
            raise InvalidArgument(
                f"{error.message}, neither the target's nor the tool image's", hint="give numbers: UID or UID:GID"
            ) from error
    home = resolve_user(place.root, str(found.uid)).home
    usable = home.startswith("/") and _is_directory(place.root, home)
    return UserIds(uid=found.uid, gid=found.gid, groups=found.groups, home=home if usable else "/")


def _is_directory(root: Path, path: str) -> bool:
    try:
        return resolve_in_root(root, path).is_dir()
    except (TareError, OSError):
        return False


def _request(target: Target, asked: ToolRequest, place: _Place, shown: Shown, around: _Around) -> SpecRequest:
    """Reads the two root file systems; blocks briefly."""
    user = _user(asked.user, place)
    container = target.container
    ids = container.ids if container is not None else None
    check_ids(ids, user)
    joined = shown.namespaces
    return SpecRequest(
        rootfs=place.root,
        args=command_of(asked, place.tools, place.root),
        env=environment(place.tools.config.config.env or (), target.env, asked.env),
        cwd=TARGET,
        uid=user.uid,
        gid=user.gid,
        groups=user.groups,
        home=user.home,
        terminal=asked.streams.tty,
        console_size=asked.streams.size,
        hostname=_hostname(target),
        mounts=_mounts(place, around, write=asked.write),
        network_namespace=around.network,
        network_shared=joined is not None,
        cap_add=("SYS_PTRACE", *asked.cap_add),
        privileged=asked.privileged,
        pid_mode=_mode(joined, "pid"),
        ipc_mode=_mode(joined, "ipc"),
        uts_mode=_mode(joined, "uts"),
        user_namespace=around.users,
        ids=None if ids is None else (ids.first, ids.size),
    )


def _mode(namespaces: ProcessNamespaces | None, kind: str) -> str:
    if namespaces is None:
        return ""
    path = namespaces.path(kind)
    return "host" if path is None else str(path)


def _mounts(place: _Place, around: _Around, *, write: bool) -> tuple[SpecMount, ...]:
    mounts = [SpecMount(source=str(place.target), destination=TARGET, options=_options(place.target, write=write))]
    mounts += [
        SpecMount(source=str(source), destination=destination, options=_options(source, write=False))
        for destination, source in around.files.items()
    ]
    return tuple(mounts)


def _options(source: Path, *, write: bool) -> tuple[str, ...]:
    """What the source's own mount forbids stays forbidden."""
    kept = restrictions(source)
    return (
        ("rbind", "rprivate", *kept)
        if write and "ro" not in kept
        else tuple(dict.fromkeys(("rbind", "rprivate", "ro", *kept)))
    )


def _hostname(target: Target) -> str:
    if target.container is not None:
        return target.container.config.hostname or target.container.id[:12]
    return "debug"


def _make_directories(place: _Place) -> None:
    place.bundle.mkdir(parents=True, mode=0o711)
    place.root.mkdir()
    place.target.mkdir()


def _write_files(bundle: Path, texts: dict[str, str]) -> dict[str, Path]:
    for name, text in texts.items():
        write_atomic(bundle / name, text, durable=False)
        (bundle / name).chmod(0o644)
    return {f"/etc/{name}": bundle / name for name in texts}


async def _let_go(place: _Place) -> None:
    """The runtime has made mounts of its own: the host's of the target's files are not needed any more."""
    await to_end(asyncio.to_thread(unmount_below, place.target))


def _release(*namespaces: Path) -> None:
    for path in namespaces:
        unmount(path)


def _why_ended(target: Target, shown: Shown) -> str:
    return f"{target.title} has ended" if shown.namespaces is not None and shown.namespaces.has_ended else ""
