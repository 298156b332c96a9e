"""What ``distroless.yaml`` says: its fields, and the rules that a type cannot tell.

The structures are the file's reference as well: ``docs/distroless.schema.json`` is made of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tare.build.assembly.yaml_nodes import DocumentSource, YamlFile, read_yaml
from tare.build.assembly.yaml_types import convert
from tare.build.dockerfile.values import parse_duration
from tare.build.modes import parse_mode
from tare.errors import InvalidArgument
from tare.model.assembly import Assembly, PackageWish, Pin, SystemUser

EXAMPLE = "base: static"
NONROOT = "65532"
"""Who runs the program unless the file says otherwise: the user ``nonroot`` of every assembled image."""

_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")  # deb-src-control(5), "Package"
_VERSION = re.compile(r"(?:[0-9]+:)?[A-Za-z0-9.+~-]+")  # deb-version(7)
_SLICE = re.compile(r"[a-z0-9][a-z0-9_-]*")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")  # useradd(8)
_LAST_UID = 2**32 - 2
_OWN_USERS = ("root", "nobody", "nonroot")

Architecture = Literal["amd64", "arm64", "arm", "386"]


class PackageEntry(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """A package with more than its name."""

    name: Annotated[str, Meta(description="Name of a Debian package.")]
    version: Annotated[str, Meta(description="Exact version; the newest unless given.")] = ""
    slices: Annotated[list[str], Meta(description="Parts of the package to take; all of it unless given.")] = []


class UserEntry(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """A user that the image has beside root, nobody and nonroot; the group has the same name and number."""

    name: Annotated[str, Meta(description="Login name.")]
    uid: Annotated[int, Meta(ge=1, le=_LAST_UID, description="Number of the user and of its group.")]
    home: Annotated[str, Meta(description="Home directory; made unless it is /nonexistent.")] = "/nonexistent"


class FileEntry(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """Files that are copied into the image, by the rules of COPY in a Dockerfile."""

    source: Annotated[
        str | list[str],
        Meta(description="Path or pattern, or several; relative to the context or to the root of from."),
    ] = []
    content: Annotated[str | None, Meta(description="The text of one file, in place of source.")] = None
    target: Annotated[str, Meta(description="Absolute path; with a slash at its end a directory.")]
    from_: Annotated[str, Meta(description="Where source is: a stage of dockerfile, a named context, or an image.")] = (
        msgspec.field(name="from", default="")
    )
    owner: Annotated[str, Meta(description="user[:group], by name or number; root unless given.")] = ""
    mode: Annotated[str, Meta(description="Permissions as chmod takes them: 0755 or u+x.")] = ""
    exclude: Annotated[list[str], Meta(description="Patterns of files that are left out.")] = []


class HealthcheckEntry(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """How a container is checked; the times are durations such as 30s."""

    test: Annotated[list[str], Meta(min_length=1, description="The command with its arguments.")]
    interval: Annotated[str, Meta(description="Time between two checks.")] = ""
    timeout: Annotated[str, Meta(description="Time after which a check has failed.")] = ""
    start_period: Annotated[str, Meta(description="Time at the start in which failures do not count.")] = ""
    start_interval: Annotated[str, Meta(description="Time between two checks in the start period.")] = ""
    retries: Annotated[int, Meta(ge=0, le=2**31 - 1, description="Failures in a row that make it unhealthy.")] = 0


class Document(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """A distroless image: packages of Debian, files, and how it runs."""

    version: Annotated[Literal["1"], Meta(description="Version of this format.")] = "1"
    base: Annotated[
        str, Meta(description="Image of the catalogue that it stands on, such as static, base, cc or python3.")
    ] = "static"
    release: Annotated[str, Meta(description="Debian release, by number or name.")] = "12"
    packages: Annotated[
        list[str | PackageEntry], Meta(description="Packages: name, name=version, or a mapping with slices.")
    ] = []
    slices: Annotated[
        dict[str, dict[str, list[str]]],
        Meta(description="Further slices: package, name of the slice, patterns of paths."),
    ] = {}
    exclude: Annotated[
        dict[str, str], Meta(description="Packages that are left out although others need them, with the reason.")
    ] = {}
    accept_scripts: Annotated[
        list[str], Meta(description="Packages whose maintainer scripts matter and may be left out all the same.")
    ] = []
    architectures: Annotated[list[Architecture], Meta(description="What it may be built for; any unless given.")] = []
    debug: Annotated[bool, Meta(description="Add a shell and tools in /busybox.")] = False
    dockerfile: Annotated[str, Meta(description="Dockerfile in the context whose stages files can come from.")] = ""
    files: Annotated[list[FileEntry], Meta(description="What is copied into the image, in this order.")] = []
    users: Annotated[list[UserEntry], Meta(description="Further users.")] = []
    user: Annotated[str, Meta(description="Who runs the program: user[:group], by name or number.")] = NONROOT
    entrypoint: Annotated[list[str] | None, Meta(description="The program with its fixed arguments.")] = None
    cmd: Annotated[list[str] | None, Meta(description="Arguments that docker run replaces.")] = None
    env: Annotated[dict[str, str], Meta(description="Environment variables.")] = {}
    labels: Annotated[dict[str, str], Meta(description="Labels of the image.")] = {}
    workdir: Annotated[str, Meta(description="Working directory; made where it is missing.")] = "/"
    ports: Annotated[list[str], Meta(description="Ports that the program listens on: 8080, 53/udp, 9000-9005.")] = []
    volumes: Annotated[
        list[str], Meta(description="Directories for data; made where missing, they belong to user.")
    ] = []
    stop_signal: Annotated[str, Meta(description="Signal that ends the program.")] = ""
    healthcheck: Annotated[HealthcheckEntry | None, Meta(description="How a container is checked.")] = None

    def wishes(self) -> tuple[PackageWish, ...]:
        """The packages that are asked for, sorted by name."""
        found = []
        for item in self.packages:
            if isinstance(item, str):
                name, _, version = item.partition("=")
                found.append(PackageWish(name=name, version=version))
            else:
                found.append(PackageWish(name=item.name, version=item.version, slices=tuple(item.slices)))
        return tuple(sorted(found, key=lambda wish: wish.name))

    def assembly(self, pins: tuple[Pin, ...] | None, epoch: int | None) -> Assembly:
        """What the assembler is asked for."""
        return Assembly(
            release=self.release,
            base=self.base,
            packages=self.wishes(),
            slices={
                package: {name: tuple(patterns) for name, patterns in slices.items()}
                for package, slices in self.slices.items()
            },
            excluded=self.exclude,
            users=tuple(SystemUser(name=item.name, uid=item.uid, home=item.home) for item in self.users),
            accepted_scripts=frozenset(self.accept_scripts),
            nonroot=self.user.partition(":")[0] in (NONROOT, "nonroot"),
            debug=self.debug,
            pins=pins,
            epoch=epoch,
        )


class DocumentFile(msgspec.Struct, frozen=True):
    """A document and the file that it was read from."""

    document: Document
    file: YamlFile

    @property
    def source(self) -> DocumentSource:
        """Name and lines of the file."""
        return self.file.source


def read_document(text: str, name: str) -> DocumentFile:
    """Read a declarative file. Raises DocumentError with the place of what is wrong."""
    file = read_yaml(text, name, example=EXAMPLE)
    for key in ("entrypoint", "cmd"):
        if isinstance(value := file.data.get(key), str):
            raise file.error(f"{key} has to be a list, as there is no shell", key, hint=f"write {key}: [{value}]")
    document = convert(file, Document)
    _check_packages(document, file)
    for check in (_check_users, _check_files, _check_rest):
        check(document, file)
    return DocumentFile(document, file)


def _check_packages(document: Document, file: YamlFile) -> None:
    seen: set[str] = set()
    for index, item in enumerate(document.packages):
        name, equals, version = (
            item.partition("=") if isinstance(item, str) else (item.name, item.version, item.version)
        )
        place: tuple[str | int, ...] = ("packages", index) if isinstance(item, str) else ("packages", index, "name")
        if not _PACKAGE.fullmatch(name):
            raise file.error(f"{name!r} is no name of a package", *place, hint="write name, or name=version")
        if equals and not _VERSION.fullmatch(version):
            raise file.error(f"{version!r} is no version of a package", "packages", index, hint="write it as dpkg does")
        if name in seen:
            raise file.error(f"package {name} is there twice", *place, hint="remove one of them")
        seen.add(name)
        if isinstance(item, PackageEntry):
            if len(set(item.slices)) < len(item.slices):
                raise file.error(f"package {name} names a slice twice", "packages", index, "slices")
            if not item.slices and "slices" in file.data["packages"][index]:
                raise file.error(
                    f"package {name}: no slice is named",
                    "packages",
                    index,
                    "slices",
                    hint="remove slices for all of it",
                )
    for package, slices in document.slices.items():
        _check_package(package, file, "slices", package)
        for name, patterns in slices.items():
            if not _SLICE.fullmatch(name):
                hint = "use lower-case letters, digits, - and _"
                raise file.error(f"{name!r} is no name of a slice", "slices", package, name, on_key=True, hint=hint)
            if not patterns:
                hint = "list patterns of paths"
                raise file.error(f"slice {name} of {package} has no paths", "slices", package, name, hint=hint)
    for package, reason in document.exclude.items():
        _check_package(package, file, "exclude", package)
        if not reason.strip():
            raise file.error(
                f"{package} is excluded without a reason", "exclude", package, hint="say why in a few words"
            )
        if package in seen:
            raise file.error(
                f"{package} is in packages and in exclude", "exclude", package, on_key=True, hint="remove one of them"
            )
    for index, package in enumerate(document.accept_scripts):
        _check_package(package, file, "accept-scripts", index)


def _check_package(name: str, file: YamlFile, *path: str | int) -> None:
    if not _PACKAGE.fullmatch(name):
        raise file.error(f"{name!r} is no name of a package", *path, on_key=True)


def _check_users(document: Document, file: YamlFile) -> None:
    names: set[str] = set()
    numbers: set[int] = set()
    for index, user in enumerate(document.users):
        if not _USER.fullmatch(user.name):
            hint = "use up to 32 lower-case letters, digits, - and _"
            raise file.error(f"{user.name!r} is no name of a user", "users", index, "name", hint=hint)
        if user.name in names or user.name in _OWN_USERS:
            raise file.error(f"there already is a user {user.name}", "users", index, "name", hint="use another name")
        if user.uid in numbers:
            raise file.error(f"there already is a user with the number {user.uid}", "users", index, "uid")
        _check_path(user.home, file, "users", index, "home")
        names.add(user.name)
        numbers.add(user.uid)


def _check_files(document: Document, file: YamlFile) -> None:
    for index, item in enumerate(document.files):
        sources = [item.source] if isinstance(item.source, str) else item.source
        place = ("files", index)
        if (item.content is None) is (not sources):
            both = "source and content exclude each other" if sources else "source is missing"
            raise file.error(both, *place, hint="give source, or content for a file that is written here")
        if not all(source.strip() for source in sources):
            raise file.error("a source is empty", *place, "source", hint='write "." for everything')
        for source in sources:
            if "://" in source:
                hint = "fetch it in a stage of dockerfile, or before the build"
                raise file.error(f"{source} is an address: only files can be copied", *place, "source", hint=hint)
        _check_path(item.target, file, *place, "target")
        if len(sources) > 1 and not item.target.endswith("/"):
            hint = f"write {item.target}/"
            raise file.error("the target of several sources is a directory", *place, "target", hint=hint)
        if item.content is not None:
            if item.target.endswith("/"):
                raise file.error("content needs the name of a file", *place, "target", hint="add the file's name")
            if item.from_ or item.exclude:
                key = "from" if item.from_ else "exclude"
                raise file.error(f"{key} means nothing beside content", *place, key, on_key=True, hint="remove it")
        if item.mode:
            try:
                parse_mode(item.mode)
            except InvalidArgument as error:
                hint = "write a mode such as 0755 or a change such as u+x,go-w"
                raise file.error(f"invalid mode {item.mode!r}", *place, "mode", hint=hint) from error


def _check_rest(document: Document, file: YamlFile) -> None:
    if not document.base:
        raise file.error("base is empty", "base", hint=f"write {EXAMPLE}")
    if not document.user.strip():
        raise file.error("user is empty", "user", hint=f"remove the line for {NONROOT}, or name a user")
    _check_path(document.workdir, file, "workdir")
    _check_once(document.architectures, file, "architectures")
    _check_once(document.volumes, file, "volumes")
    for index, path in enumerate(document.volumes):
        _check_path(path, file, "volumes", index)
    for name in document.env:
        if not name or "=" in name:
            raise file.error(f"{name!r} is no name of a variable", "env", name, on_key=True)
    for name in document.labels:
        if not name:
            raise file.error("the name of a label is empty", "labels", name, on_key=True)
    if document.entrypoint is not None and document.entrypoint and not document.entrypoint[0]:
        raise file.error("the program's name is empty", "entrypoint")
    if document.healthcheck is not None:
        for name in ("interval", "timeout", "start_period", "start_interval"):
            duration_of(file, name.replace("_", "-"), getattr(document.healthcheck, name))


def duration_of(file: YamlFile, name: str, text: str) -> int:
    """Nanoseconds of a time in ``healthcheck``; 0 where it is not given. Raises DocumentError."""
    if not text:
        return 0
    try:
        found = parse_duration(text)
    except InvalidArgument as error:
        hint = "write a number and a unit, such as 30s or 1m30s"
        raise file.error(f"invalid duration {text!r}", "healthcheck", name, hint=hint) from error
    if found < 1_000_000:
        raise file.error(f"{name} cannot be less than 1ms", "healthcheck", name)
    return found


def _check_once(values: Iterable[str], file: YamlFile, key: str) -> None:
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value in seen:
            raise file.error(f"{value} is there twice", key, index, hint="remove one of them")
        seen.add(value)


def _check_path(path: str, file: YamlFile, *place: str | int) -> None:
    if not path.startswith("/"):
        raise file.error(f"{path!r} is not absolute", *place, hint=f"write /{path}")
