"""Typed instructions: what a Dockerfile says, before variables are expanded.

Every string of these values is raw: quotes, escapes and ``$variables`` are still in it and :mod:`.expansion` resolves
them, at the time and for the fields that the reference names. Not expanded are ``Run.command``, ``Cmd``,
``Entrypoint``, ``Shell``, ``Healthcheck``, ``Onbuild`` and ``Maintainer``; a heredoc's text is where it says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from tare.build.dockerfile.mounts import Mount
from tare.build.dockerfile.source import SourceRange


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A here-document: the delimiter's ``name``, its text, whether variables are expanded.

    ``content`` is chomped for ``<<-``, ``raw`` is as written.
    """

    name: str
    content: str
    expand: bool = True
    chomp: bool = False
    descriptor: int = 0
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """A command line: ``shell`` form has one string in ``args`` (run by SHELL), exec form the argument vector.

    ``args`` may be empty in exec form (``CMD []``). ``heredocs`` belong to RUN only: where the shell line is nothing
    but one heredoc marker, ``args`` is its marker and ``heredocs[0]`` the script.
    """

    args: tuple[str, ...]
    shell: bool
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """What all instructions have: ``original`` is the logical line as written (for history), ``range`` its lines."""

    range: SourceRange
    original: str


@dataclass(frozen=True, slots=True, kw_only=True)
class From(Instruction):
    """``FROM [--platform=platform] image [AS alias]``; alias is lower case, empty where there is none."""

    image: str
    alias: str = ""
    platform: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arg(Instruction):
    """``ARG name[=default] …``; a default of None means that there is none."""

    args: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Env(Instruction):
    """``ENV name=value …`` or the old ``ENV name value``; values are words to expand."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label(Instruction):
    """``LABEL name=value …``; names and values are words to expand."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Instruction):
    """``RUN``; network is ``default``, ``none`` or ``host``, security ``sandbox`` or ``insecure``."""

    command: Command
    mounts: tuple[Mount, ...] = ()
    network: str = "default"
    security: str = "sandbox"
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InlineFile:
    """A heredoc used as a source of COPY or ADD: becomes a file ``name`` (the delimiter) with this text."""

    name: str
    content: str
    expand: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Instruction):
    """``COPY``: ``sources`` and ``destination`` are words to expand; ``from_`` is empty for the build context.

    ``chown`` and ``chmod`` are as written (empty where not given). ``inline`` are the heredoc sources.
    """

    sources: tuple[str, ...]
    destination: str
    from_: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    inline: tuple[InlineFile, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Instruction):
    """``ADD``: as COPY, and sources may be URLs, git repositories or local archives.

    ``unpack`` is None where the flag is not given: local archives are unpacked, downloaded ones are not.
    """

    sources: tuple[str, ...]
    destination: str
    chown: str = ""
    chmod: str = ""
    link: bool = False
    exclude: tuple[str, ...] = ()
    inline: tuple[InlineFile, ...] = ()
    checksum: str = ""
    keep_git_dir: bool | None = None
    unpack: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cmd(Instruction):
    """``CMD``."""

    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrypoint(Instruction):
    """``ENTRYPOINT``."""

    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Expose(Instruction):
    """``EXPOSE port[-port][/protocol] …``: words to expand and then to split."""

    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume(Instruction):
    """``VOLUME path …`` or ``VOLUME ["path", …]``."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Instruction):
    """``USER user[:group]``."""

    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Workdir(Instruction):
    """``WORKDIR path``; relative to the one before."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell(Instruction):
    """``SHELL ["executable", "parameter", …]``."""

    shell: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StopSignal(Instruction):
    """``STOPSIGNAL``: a name or number, a word to expand."""

    signal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck(Instruction):
    """``HEALTHCHECK``: ``command`` None means NONE (switch off); durations in nanoseconds, 0 means inherit."""

    command: Command | None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Onbuild(Instruction):
    """``ONBUILD instruction``: ``expression`` is the instruction's text, as the image configuration stores it."""

    expression: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintainer(Instruction):
    """``MAINTAINER`` (deprecated): the image's author."""

    maintainer: str


AnyInstruction = (
    From
    | Arg
    | Env
    | Label
    | Run
    | Copy
    | Add
    | Cmd
    | Entrypoint
    | Expose
    | Volume
    | User
    | Workdir
    | Shell
    | StopSignal
    | Healthcheck
    | Onbuild
    | Maintainer
)
