"""How programs are told by what is in them, whatever their names: a table, and what evaluates it.

Two kinds of traces count. A *word* is a string with a zero byte on either side: names of built-in commands, of applets,
of imported and exported symbols. A *part* is any run of bytes, such as the text of a version. Words are looked for in
programs and libraries, parts in programs and scripts. Chosen from Debian 12's binaries and, where upstream's names have
been stable for years, its sources; no trace depends on a version, a distribution or a path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a program can be used for; the value is the identifier of the finding."""

    SHELL = "shell"
    PACKAGE_MANAGER = "package-manager"
    COMPILER = "compiler"
    NETWORK_TOOL = "network-tool"
    DEBUGGER = "debugger"
    INTERPRETER = "interpreter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """Traces of one program: at least ``least`` of the ``words``, and all ``parts``.

    ``libraries``: beginnings of the names of libraries that it needs, or of its own; one of them suffices.
    """

    role: Role
    name: str
    words: frozenset[bytes] = frozenset()
    least: int = 0
    parts: tuple[bytes, ...] = ()
    libraries: tuple[str, ...] = ()


def _words(text: str) -> frozenset[bytes]:
    return frozenset(text.encode().split())


def _words_of(role: Role, name: str, words: str, least: int = 0, *parts: bytes) -> Signature:
    return Signature(role=role, name=name, words=_words(words), least=least or len(words.split()), parts=parts)


def _parts_of(role: Role, name: str, *parts: bytes) -> Signature:
    return Signature(role=role, name=name, parts=parts)


_RESERVED = _words("then elif fi until done do while case")  # POSIX.1-2017, XCU 2.4; esac is asked for by itself
_BUILT_IN = _words("getopts unalias ulimit jobs fg wait umask IFS PS1 PS2")

_APPLETS = (
    "adjtimex chvt deallocvt dumpkmap losetup mkswap openvt setkeycodes syslogd klogd watchdog udhcpc cttyhack unlzma"
    " oneit partprobe nbd-client makedevs fsfreeze vconfig readahead microcom hexedit pivot_root switch_root"
)

BINARIES: tuple[Signature, ...] = (
    _words_of(Role.SHELL, "a multi-call program (busybox, toybox)", _APPLETS, 9),
    _words_of(Role.SHELL, "csh", "endsw breaksw endif onintr hashstat foreach", 4),
    _parts_of(Role.SHELL, "busybox", b"BusyBox v", b"applet"),
    _parts_of(Role.SHELL, "toybox", b"multicall binary", b"toybox"),
    _parts_of(Role.SHELL, "fish", b"__fish_print_help"),
    _parts_of(Role.SHELL, "yash", b"YASH_LOADPATH"),
    _parts_of(Role.SHELL, "sash", b"Stand-alone shell"),
    _parts_of(Role.SHELL, "rc", b"rc: not enough arguments to flag"),
    _parts_of(Role.SHELL, "elvish", b"src.elv.sh/pkg/"),
    _parts_of(Role.SHELL, "gosh", b"mvdan.cc/sh/v3/interp."),
    _parts_of(Role.SHELL, "nushell", b"nu_cli", b"nu_command"),
    _parts_of(Role.SHELL, "PowerShell", b"pwsh.dll"),
    _words_of(Role.PACKAGE_MANAGER, "apt", "_ZN8pkgCacheD1Ev _ZN11pkgDepCacheD1Ev"),
    Signature(role=Role.PACKAGE_MANAGER, name="apt", libraries=("libapt-pkg.so", "libapt-private.so")),
    _parts_of(Role.PACKAGE_MANAGER, "dpkg", b"/var/lib/dpkg", b"diversions", b"dpkg-deb"),
    _words_of(Role.PACKAGE_MANAGER, "dpkg", "control.tar data.tar dpkg-deb"),
    _words_of(Role.PACKAGE_MANAGER, "rpm", "rpmtsCreate"),
    Signature(role=Role.PACKAGE_MANAGER, name="rpm", libraries=("librpm.so",)),
    _words_of(Role.PACKAGE_MANAGER, "dnf", "dnf_context_new"),
    Signature(role=Role.PACKAGE_MANAGER, name="dnf", libraries=("libdnf.so", "libdnf5.so")),
    _words_of(Role.PACKAGE_MANAGER, "libsolv", "solver_create pool_createwhatprovides"),
    Signature(role=Role.PACKAGE_MANAGER, name="zypper", libraries=("libzypp.so", "libsolv.so")),
    _words_of(Role.PACKAGE_MANAGER, "pacman", "alpm_initialize"),
    _words_of(Role.PACKAGE_MANAGER, "apk", "apk_db_open"),
    Signature(role=Role.PACKAGE_MANAGER, name="apk", libraries=("libapk.so",)),
    _parts_of(Role.PACKAGE_MANAGER, "apk", b"lib/apk/db", b"apk-tools"),
    _parts_of(Role.PACKAGE_MANAGER, "opkg", b"opkg_conf", b"/opkg/"),
    _parts_of(Role.PACKAGE_MANAGER, "snap", b"github.com/snapcore/snapd/"),
    _words_of(Role.PACKAGE_MANAGER, "flatpak", "FLATPAK_USER_DIR FLATPAK_SYSTEM_DIR", 1, b"flatpak"),
    _parts_of(Role.PACKAGE_MANAGER, "nix", b"nix-store", b"/nix/var"),
    _parts_of(Role.PACKAGE_MANAGER, "cargo", b"CARGO_HOME", b"crates.io"),
    _parts_of(Role.PACKAGE_MANAGER, "uv", b"UV_INDEX_URL"),
    _parts_of(Role.COMPILER, "the GNU compiler", b"GNU C17"),
    _parts_of(Role.COMPILER, "the GNU compiler driver", b"COLLECT_GCC"),
    _words_of(Role.COMPILER, "the GNU assembler", "cfi_startproc bfd_openw", 2, b"GNU assembler"),
    _words_of(Role.COMPILER, "the GNU linker", ".gnu.linkonce.t.", 1, b"GNU ld"),
    Signature(
        role=Role.COMPILER, name="clang", libraries=("libclang-cpp.so", "libclang-cpp-", "libclang-")
    ),
    _parts_of(Role.COMPILER, "clang", b"clang version", b"-cc1as"),
    _parts_of(Role.COMPILER, "the Tiny C Compiler", b"Tiny C Compiler"),
    Signature(role=Role.COMPILER, name="the Tiny C Compiler", libraries=("libtcc.so",)),
    Signature(role=Role.COMPILER, name="rustc", libraries=("librustc_driver-",)),
    _parts_of(Role.COMPILER, "the Go compiler", b"cmd/compile/internal/"),
    _parts_of(Role.COMPILER, "the go command", b"cmd/go/internal/"),
    _words_of(Role.COMPILER, "javac", "JLI_Launch", 1, b"com.sun.tools.javac"),
    _parts_of(Role.COMPILER, "nasm", b"NASM version"),
    _parts_of(Role.COMPILER, "the Free Pascal Compiler", b"Free Pascal Compiler"),
    _words_of(Role.INTERPRETER, "Python", "Py_BytesMain"),
    _words_of(Role.INTERPRETER, "Python", "Py_InitializeEx Py_Main", 1),
    _words_of(Role.INTERPRETER, "Perl", "perl_construct"),
    _words_of(Role.INTERPRETER, "Ruby", "ruby_options"),
    _words_of(Role.INTERPRETER, "Lua", "luaL_openlibs luaL_loadfilex"),
    _words_of(Role.INTERPRETER, "PHP", "php_module_startup"),
    _words_of(Role.INTERPRETER, "Tcl", "Tcl_CreateInterp"),
    _words_of(Role.INTERPRETER, "Guile", "scm_boot_guile"),
    _words_of(Role.INTERPRETER, "R", "Rf_initialize_R"),
    _words_of(Role.INTERPRETER, "awk", "SUBSEP RSTART RLENGTH FILENAME NR", 3),
    _words_of(Role.INTERPRETER, "Node.js", "_ZN4node5StartEiPPc"),
    _parts_of(Role.INTERPRETER, "Node.js", b"NODE_OPTIONS", b"internal/bootstrap/node"),
    _parts_of(Role.INTERPRETER, "Deno", b"DENO_DIR", b"deno_core"),
    _parts_of(Role.INTERPRETER, "Bun", b"BUN_INSTALL", b"bun.lockb"),
    _words_of(Role.INTERPRETER, "Erlang", "erl_start"),
    _words_of(Role.INTERPRETER, "QuickJS", "js_std_eval_binary"),
    _words_of(Role.INTERPRETER, "the Java VM", "JNI_CreateJavaVM"),
    _words_of(Role.INTERPRETER, "the Java VM", "JLI_Launch"),
    _words_of(Role.NETWORK_TOOL, "curl", "curl_easy_perform", 1, b"curl --help"),
    _parts_of(Role.NETWORK_TOOL, "wget", b"GNU Wget"),
    _parts_of(Role.NETWORK_TOOL, "netcat", b"nc -l -p port"),
    _parts_of(Role.NETWORK_TOOL, "netcat", b"usage: nc "),
    _parts_of(Role.NETWORK_TOOL, "ncat", b"https://nmap.org/ncat"),
    _parts_of(Role.NETWORK_TOOL, "socat", b"socat by Gerhard"),
    _parts_of(Role.NETWORK_TOOL, "nmap", b"Nmap ", b"nmap.org"),
    _parts_of(Role.NETWORK_TOOL, "the OpenSSH client", b"OpenSSH_", b"usage: ssh "),
    _parts_of(Role.NETWORK_TOOL, "Dropbear", b"Dropbear"),
    _parts_of(Role.NETWORK_TOOL, "telnet", b".telnetrc", b"Escape character"),
    _parts_of(Role.NETWORK_TOOL, "ftp", b"ftp> "),
    _words_of(Role.NETWORK_TOOL, "tcpdump", "pcap_loop pcap_create"),
    _parts_of(Role.NETWORK_TOOL, "dig", b"DiG "),
    _parts_of(Role.NETWORK_TOOL, "ip", b"Usage: ip ["),
    _parts_of(Role.NETWORK_TOOL, "ss", b"Usage: ss ["),
    _parts_of(Role.NETWORK_TOOL, "ping", b"ping statistics"),
    _parts_of(Role.NETWORK_TOOL, "rsync", b"rsync.samba.org"),
    Signature(role=Role.NETWORK_TOOL, name="aria2", libraries=("libaria2.so",)),
    _parts_of(Role.NETWORK_TOOL, "aria2", b"aria2.github.io"),
    _parts_of(Role.NETWORK_TOOL, "lftp", b"get_lftp_home"),
    _parts_of(Role.DEBUGGER, "gdb", b"GNU gdb"),
    _parts_of(Role.DEBUGGER, "strace", b"Usage: strace"),
    _parts_of(Role.DEBUGGER, "ltrace", b"ltrace version"),
    _parts_of(Role.DEBUGGER, "bpftrace", b"BPFTRACE_"),
    _parts_of(Role.DEBUGGER, "delve", b"github.com/go-delve/delve/"),
)  # fmt: skip

SCRIPTS: tuple[tuple[Role, str, re.Pattern[bytes]], ...] = tuple(
    (role, name, re.compile(pattern, re.MULTILINE))
    for role, name, pattern in (
        (Role.PACKAGE_MANAGER, "pip", rb"^[ \t]*from pip\._internal\.cli\.main import main\b"),
        (Role.PACKAGE_MANAGER, "npm", rb"^[ \t]*\"name\": ?\"npm\",?[ \t\r]*$"),
        (Role.PACKAGE_MANAGER, "yarn", rb"^[ \t]*\"name\": ?\"yarn\",?[ \t\r]*$"),
        (Role.PACKAGE_MANAGER, "pnpm", rb"^[ \t]*\"name\": ?\"pnpm\",?[ \t\r]*$"),
        (Role.PACKAGE_MANAGER, "RubyGems", rb"^[ \t]*class Gem::GemRunner\b"),
        (Role.PACKAGE_MANAGER, "dnf", rb"^[ \t]*from dnf\.cli import main\b"),
        (Role.PACKAGE_MANAGER, "yum", rb"^[ \t]*import yummain\b"),
        (Role.PACKAGE_MANAGER, "conda", rb"^[ \t]*from conda\.cli import main\b"),
        (Role.PACKAGE_MANAGER, "Composer", rb"Composer\\Console\\Application"),
        (Role.PACKAGE_MANAGER, "CPAN", rb"^[ \t]*(?:use|require) App::Cpan\b"),
        (Role.PACKAGE_MANAGER, "Maven", rb"org\.codehaus\.plexus\.classworlds\.launcher\.Launcher"),
        (Role.SHELL, "xonsh", rb"^[ \t]*from xonsh\.main import main\b"),
    )
)
SCRIPT_TRACES = (
    b"pip._internal.cli.main", b'"npm"', b'"yarn"', b'"pnpm"', b"GemRunner", b"dnf.cli", b"yummain", b"conda.cli",
    b"Composer", b"App::Cpan", b"classworlds", b"xonsh.main",
)  # fmt: skip
"""One of these is in every text that a pattern of ``SCRIPTS`` fits: looking for them is much faster."""

WORDS: frozenset[bytes] = frozenset().union(
    *(signature.words for signature in BINARIES), _RESERVED, _BUILT_IN, {b"esac"}
)
PARTS: tuple[bytes, ...] = tuple(sorted({part for signature in BINARIES for part in signature.parts}))
LONGEST = max(map(len, PARTS))


def _is_posix_shell(words: frozenset[bytes]) -> bool:
    """Whether the names of a shell's grammar and of its own commands are there, whichever shell it is."""
    return b"esac" in words and len(words & _RESERVED) >= 2 and len(words & _BUILT_IN) >= 2


def recognise(
    words: frozenset[bytes], parts: frozenset[bytes], libraries: Iterable[str]
) -> tuple[tuple[Role, str], ...]:
    """What a binary is, by its traces and the names of its libraries; at most one name for each role."""
    names = tuple(libraries)
    found: dict[Role, str] = {}
    for signature in BINARIES:
        by_library = any(name.startswith(signature.libraries) for name in names) if signature.libraries else False
        traces = bool(signature.words or signature.parts)
        by_traces = traces and len(words & signature.words) >= signature.least and parts.issuperset(signature.parts)
        if by_library or by_traces:
            found.setdefault(signature.role, signature.name)
    if _is_posix_shell(words):
        found.setdefault(Role.SHELL, "a POSIX shell")
    return tuple(found.items())


def recognise_script(text: bytes) -> tuple[tuple[Role, str], ...]:
    """What a text is that an interpreter runs."""
    if not any(trace in text for trace in SCRIPT_TRACES):
        return ()
    found: dict[Role, str] = {}
    for role, name, pattern in SCRIPTS:
        if pattern.search(text):
            found.setdefault(role, name)
    return tuple(found.items())
