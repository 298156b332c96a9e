"""The closure of an entrypoint: every file that running it can execute or load, each with the reason.

Roots are the words of ENTRYPOINT, CMD and HEALTHCHECK that name programs. A script brings its interpreter (execve(2)),
a program its loader and, as ld.so(8) and musl's loader search them, its libraries with theirs. What is loaded by name
while a program runs is told by the symbols by which its users find it: ``PLUGINS``. A Java VM brings the launchers of
its own home, which do nothing but start it. Where the loader might take one of several files, all are in the closure.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tare.audit.content import Content, Examiner, Form
from tare.audit.tree import Inode, Tree
from tare.base.elf import Elf

PLUGINS: tuple[tuple[str, str, re.Pattern[bytes]], ...] = tuple(
    (reader, what, re.compile(pattern))
    for reader, what, pattern in (
        ("", "a module of glibc's name service", rb"_nss_[a-z0-9]+_\w+"),
        ("", "a character set of glibc", rb"gconv"),
        ("", "a provider or engine of OpenSSL", rb"OSSL_provider_init|bind_engine"),
        ("", "a module of PAM", rb"pam_sm_\w+"),
        ("", "a mechanism of SASL", rb"sasl_(?:client|server)_plug_init"),
        ("", "a module of GIO", rb"g_io_\w*_?load"),
        ("Python", "an extension module of Python", rb"PyInit_\w+"),
        ("Perl", "an extension of Perl", rb"boot_\w+"),
        ("Ruby", "an extension of Ruby", rb"Init_\w+"),
        ("Lua", "a module of Lua", rb"luaopen_\w+"),
        ("PHP", "an extension of PHP", rb"get_module"),
        ("Tcl", "an extension of Tcl", rb"[A-Z]\w*_Init"),
        ("R", "a package of R", rb"R_init_\w+"),
        ("Erlang", "a native function of Erlang", rb"nif_init"),
        ("Node.js", "an addon of Node.js", rb"napi_register_module_v\d+|node_register_module_v\d+"),
        ("the Java VM", "a native library of Java", rb"Java_\w+|(?:JNI|JVM|Agent)_OnLoad\w*|JNI_CreateJavaVM"),
        ("", "a module of nginx", rb"ngx_module_names"),
        ("", "a module of PostgreSQL", rb"Pg_magic_func|_PG_\w+"),
        ("", "a plugin of MariaDB or MySQL", rb"_(?:maria|mysql)_\w+declarations_|_mysql_client_plugin_declaration_"),
    )
)  # fmt: skip
"""Who loads it (an interpreter as ``signatures`` names it; empty: a library of C programs), what it is, its symbol."""

_TRIPLES = (
    "x86_64-linux-gnu", "aarch64-linux-gnu", "arm-linux-gnueabihf", "i386-linux-gnu", "riscv64-linux-gnu",
    "powerpc64le-linux-gnu", "s390x-linux-gnu", "loongarch64-linux-gnu",
)  # fmt: skip
_DIRECTORIES = (
    "/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64",
    *(f"{top}/{triple}" for triple in _TRIPLES for top in ("/lib", "/usr/lib", "/usr/local/lib")),
)  # fmt: skip
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_JAVA = "the Java VM"
_JVM_HELPERS = {"jspawnhelper": "starts child processes for it", "jexec": "starts it for jar files"}
_MAX_INCLUDES = 50
_MAX_LAUNCHER = 128 << 10  # bytes; OpenJDK's own have 10 to 30 KiB


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the closure: its path without links, its inode, and why it is there."""

    path: str
    inode: Inode
    reason: str


@dataclass(frozen=True, slots=True)
class Missing:
    """A library, interpreter or program that is nowhere. ``optional``: only what is loaded by name needs it."""

    name: str
    user: str
    optional: bool = False


@dataclass(slots=True, kw_only=True)
class Closure:
    """What running the entrypoint can execute or load.

    ``words`` are those that name its programs; ``missing`` the libraries and interpreters that are nowhere, with who
    needs them. ``runtimes`` are the interpreters in it, by name, ``homes`` the directories of Java VMs.
    """

    words: tuple[str, ...] = ()
    members: dict[int, Member] = field(default_factory=dict)
    missing: list[Missing] = field(default_factory=list)
    runtimes: set[str] = field(default_factory=set)
    homes: list[str] = field(default_factory=list)

    def has(self, inode: Inode) -> bool:
        """Whether the file, under whichever of its names, is in the closure."""
        return id(inode) in self.members


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """How the container's process begins: the words of the command, further ones, directory, environment."""

    command: tuple[str, ...]
    others: tuple[tuple[str, ...], ...] = ()
    programs: tuple[str, ...] = ()
    directory: str = "/"
    environment: Mapping[str, str] = field(default_factory=dict)


def find_closure(tree: Tree, examiner: Examiner, start: Start) -> Closure:
    """Walk from the roots. Without a command the roots are all libraries: such an image is there to build upon."""
    return _Walk(tree, examiner, start).run()


class _Walk:
    def __init__(self, tree: Tree, examiner: Examiner, start: Start) -> None:
        self._tree = tree
        self._examiner = examiner
        self._start = start
        self._closure = Closure()
        self._optional = False
        self._waiting: deque[tuple[Member, tuple[str, ...]]] = deque()
        path = start.environment.get("LD_LIBRARY_PATH", "")
        self._shared = (*(item for item in path.split(":") if item), *self._configured(), *_DIRECTORIES)
        self._plugins: list[tuple[str, Inode, list[tuple[str, str]]]] | None = None
        self._libraries = [
            (path, inode) for path, inode in tree.files() if examiner.examine(inode).form is Form.LIBRARY
        ]  # fmt: skip

    def run(self) -> Closure:
        for words in (self._start.command, *self._start.others):
            self._root(words)
        for program in self._start.programs:
            if not self._add_program(program, "named by who asked"):
                self._miss(program, "who asked for it")
        self._preloaded()
        if not self._closure.members and not self._start.command:
            self._optional = True
            for path, inode in self._libraries:
                self._add(path, inode, "a library of an image without an entrypoint")
        self._drain()
        self._optional = True
        while self._add_plugins():
            self._drain()
        loaded = {
            elf.soname for one in self._closure.members.values() if (elf := self._examiner.examine(one.inode).elf)
        }
        # Who needs the name of something that is loaded gets that, wherever it lies (ld.so(8)).
        self._closure.missing = [one for one in self._closure.missing if one.name not in loaded]
        return self._closure

    def _miss(self, name: str, user: str) -> None:
        self._closure.missing.append(Missing(name, user, self._optional))

    def _root(self, words: tuple[str, ...]) -> None:
        """The program of a command, and those that wrappers get: the word after ``--``, and words that are paths."""
        for position, word in enumerate(words):
            if position and "/" not in word and words[position - 1] != "--":
                continue
            found = self._program(word)
            if found is None:
                if not position:
                    self._miss(word, "the image's command")
                continue
            content = self._examiner.examine(found[1])
            if not position or content.form in (Form.PROGRAM, Form.SCRIPT):
                self._closure.words = (*self._closure.words, word)
                self._add(*found, "the entrypoint" if not position else "a program in the image's command")

    def _add_program(self, word: str, reason: str) -> bool:
        found = self._program(word)
        if found is not None:
            self._add(*found, reason)
        return found is not None

    def _program(self, word: str) -> tuple[str, Inode] | None:
        if "/" in word:
            return self._tree.find_file(posixpath.join(self._start.directory or "/", word))
        for directory in self._start.environment.get("PATH", _DEFAULT_PATH).split(":"):
            found = self._tree.find_file(posixpath.join(self._start.directory or "/", directory, word))
            if found is not None and found[1].mode & 0o111:
                return found
        return None

    def _preloaded(self) -> None:
        text = self._start.environment.get("LD_PRELOAD", "")
        found = self._tree.find_file("/etc/ld.so.preload")
        if found is not None:
            text += " " + self._examiner.text(found[1]).decode(errors="replace")
        for name in re.split(r"[\s:]+", text):
            if name:
                self._need(name, "the preloading of libraries", (), "preloaded into every process")

    def _add(self, path: str, inode: Inode, reason: str, inherited: tuple[str, ...] = ()) -> None:
        if not self._closure.has(inode):
            member = self._closure.members[id(inode)] = Member(path, inode, reason)
            self._waiting.append((member, inherited))

    def _drain(self) -> None:
        while self._waiting:
            member, inherited = self._waiting.popleft()
            content = self._examiner.examine(member.inode)
            self._closure.runtimes.update(name for role, name in content.roles if role.value == "interpreter")
            if content.interpreter:
                self._add_interpreter(member, content)
            elif content.elf is not None:
                self._add_loaded(member, content.elf, inherited)
            if any(name == _JAVA for _, name in content.roles):
                self._add_java_home(member)

    def _add_interpreter(self, member: Member, content: Content) -> None:
        words = content.interpreter
        self._follow(words[0], f"the interpreter of {member.path}", member.path)
        if posixpath.basename(words[0]) == "env":
            rest = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
            if rest:
                self._follow(rest[0], f"the interpreter of {member.path}", member.path)

    def _follow(self, word: str, reason: str, user: str) -> None:
        if not self._add_program(word, reason):
            self._miss(word, user)

    def _add_loaded(self, member: Member, elf: Elf, inherited: tuple[str, ...]) -> None:
        if elf.interpreter:
            self._follow(elf.interpreter, f"the loader of {member.path}", member.path)
        own = self._expanded(elf.runpath or elf.rpath, member.path)
        below = inherited if elf.runpath else (*inherited, *self._expanded(elf.rpath, member.path))[:200]
        for name in elf.needed:
            self._need(name, member.path, (*own, *inherited), f"needed by {member.path}", below)

    def _need(
        self, name: str, user: str, directories: Iterable[str], reason: str, inherited: tuple[str, ...] = ()
    ) -> None:
        places = (name,) if "/" in name else (posixpath.join(place, name) for place in (*directories, *self._shared))
        found = {id(one[1]): one for place in places if (one := self._tree.find_file(place)) is not None}
        for path, inode in found.values():
            self._add(path, inode, reason, inherited)
        if not found and not name.startswith(("libc.musl-", "ld-musl-", "linux-vdso")):
            self._miss(name, user)

    def _expanded(self, text: str, path: str) -> tuple[str, ...]:
        origin = posixpath.dirname(path)
        words = (re.sub(r"\$(ORIGIN|\{ORIGIN\})", lambda _: origin, item) for item in text.split(":")[:200] if item)
        return tuple(re.sub(r"\$(LIB|\{LIB\})", "lib", word) for word in words)

    def _configured(self) -> Iterator[str]:
        """The directories of ld.so.conf(5) and of musl's path file."""
        waiting = deque(["/etc/ld.so.conf"])
        for _ in range(_MAX_INCLUDES):
            if not waiting:
                break
            found = self._tree.find_file(waiting.popleft())
            text = self._examiner.text(found[1]).decode(errors="replace") if found is not None else ""
            for line in (item.partition("#")[0].strip() for item in text.splitlines()):
                if line.startswith("include"):
                    waiting.extend(self._matching(line.removeprefix("include").strip()))
                elif line:
                    yield line
        for path in self._matching("/etc/ld-musl-*.path"):
            found = self._tree.find_file(path)
            text = self._examiner.text(found[1]).decode(errors="replace") if found is not None else ""
            yield from (item for item in re.split(r"[:\n]", text) if item)

    def _matching(self, pattern: str) -> list[str]:
        directory, _, name = pattern.rpartition("/")
        found = self._tree.find(directory)
        names = sorted(found[1].children) if found is not None else []
        return [f"{directory}/{one}" for one in names if fnmatch.fnmatchcase(one, name)][:_MAX_INCLUDES]

    def _add_java_home(self, member: Member) -> None:
        """What the VM's own home has: launchers need ``libjli``, and two helpers are started by the VM itself."""
        home = posixpath.dirname(posixpath.dirname(member.path))
        modules = self._tree.find_file(f"{home}/lib/modules")
        if home in self._closure.homes or modules is None or not self._examiner.is_java_image(modules[1]):
            return
        self._closure.homes.append(home)
        for path, inode in self._tree.files(f"{home}/bin"):
            roles = [name for _, name in self._examiner.examine(inode).roles]
            if roles == [_JAVA] and inode.size <= _MAX_LAUNCHER:
                self._add(path, inode, "a launcher of the Java VM")
        for name, what in _JVM_HELPERS.items():
            found = self._tree.find_file(f"{home}/lib/{name}")
            if found is not None and found[1].size <= _MAX_LAUNCHER and not self._examiner.examine(found[1]).roles:
                self._add(*found, f"part of the Java VM: {what}")

    def _add_plugins(self) -> bool:
        """Libraries that a runtime in the closure finds by name; whether there was one."""
        if self._plugins is None:
            self._plugins = [
                (path, inode, kinds) for path, inode in self._libraries if (kinds := self._plugin_kinds(inode))
            ]
        readers = {"", *self._closure.runtimes}
        before = len(self._closure.members)
        for path, inode, kinds in self._plugins:
            for reader, what in kinds:
                if reader in readers:
                    self._add(path, inode, what)
        return len(self._closure.members) > before

    def _plugin_kinds(self, inode: Inode) -> list[tuple[str, str]]:
        """Who loads a library by name, and what it is to them."""
        symbols = self._examiner.exports(inode)
        return [
            (reader, what) for reader, what, pattern in PLUGINS if any(pattern.fullmatch(symbol) for symbol in symbols)
        ]
