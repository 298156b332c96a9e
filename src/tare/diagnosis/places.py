"""Where programs keep data, logs, and what may be lost: by the Filesystem Hierarchy Standard and by habit."""

from __future__ import annotations

import posixpath
import re

TRANSIENT = frozenset(
    {
        "tmp", "run", "proc", "sys", "dev", "boot", "var/tmp", "var/run", "var/lock", "var/cache", "lost+found",
        "var/lib/apt", "var/lib/dpkg", "var/lib/rpm", "var/lib/dnf", "var/lib/yum", "var/lib/pacman", "var/lib/apk",
        "lib/apk", "usr/lib/sysimage", "var/lib/systemd", "var/lib/ucf", "var/lib/pam", "var/lib/debconf",
        "var/lib/misc", "var/lib/dhcp", "var/lib/dbus", "var/lib/alternatives", "var/lib/shells.state",
        "var/lib/initscripts", "var/lib/sgml-base", "var/lib/xml-core", "var/lib/python", "var/lib/ca-certificates",
        "var/backups", "var/log/apt", "var/log/dpkg.log", "var/log/alternatives.log", "var/log/bootstrap.log",
        "var/log/lastlog", "var/log/faillog", "var/log/wtmp", "var/log/btmp", "var/log/dnf.log", "var/log/installer",
        "var/log/README", "etc/ld.so.cache", "usr/share/man", "usr/share/doc",
    }
)  # fmt: skip
"""What is made anew, or belongs to the package manager; without the leading slash."""

PROGRAM_ROOTS = frozenset({"bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "opt"})
"""Where programs and their settings are: files there are data only when their kind or name says so."""

_TRANSIENT_NAMES = frozenset(
    {
        "__pycache__", "node_modules", ".cache", ".npm", ".yarn", ".pnpm-store", ".cargo", ".rustup", ".gem", ".bundle",
        ".m2", ".gradle", ".ivy2", ".nuget", ".git", ".hg", ".svn", ".venv", "venv", ".tox", ".nox", ".mypy_cache",
        ".pytest_cache", ".ruff_cache", ".next", ".nuxt", ".parcel-cache", ".turbo", ".terraform", ".vscode-server",
        ".local", ".config", ".gnupg", ".dbus", ".pki", "cache", "tmp", "temp", "caches", ".ipython", ".matplotlib",
        "lost+found", ".Trash", "site-packages", "dist-packages", ".eggs", ".java", ".dotnet", ".ansible", ".kube",
    }
)  # fmt: skip
"""Directories that are made anew wherever they lie."""

_TRANSIENT_FILE = re.compile(
    r"""\.(?:pyc|pyo|pid|sock|lock|lck|swp|swo|tmp|temp|bak~|socket|o|class)$ | ~$ | ^\.\#
      | ^\.(?:\w+_history|viminfo|wget-hsts|lesshst|node_repl_history|psql_history|mysql_history|bashrc|profile
             |bash_logout|selected_editor|sudo_as_admin_successful|wh\..*|DS_Store|keep|gitkeep)$
      | ^(?:core|core\.\d+|nohup\.out|Thumbs\.db|LOCK|lock|pid)$""",
    re.VERBOSE,
)

_DATA_NAMES = frozenset(
    {
        "data", "db", "database", "databases", "storage", "store", "upload", "uploads", "files", "media", "backup",
        "backups", "attachments", "repositories", "mail", "maildir", "logs", "log", "sessions", "state", "saves",
        "world", "userdata", "documents", "archive", "archives", "recordings", "photos", "queue", "spool",
    }
)  # fmt: skip

_DATA_FILE = re.compile(
    r"\.(?:db|sqlite|sqlite3|db3|mdb|rdb|aof|ldb|csv|tsv|parquet|feather|dump|sql|bak|backup|rrd|log|jsonl|ndjson"
    r"|(?:tar|sql|csv|log)\.(?:gz|xz|bz2|zst)|h5|hdf5|keystore|p12|kdbx)(?:\.\d+)?$",
    re.IGNORECASE,
)

_LOG_FILE = re.compile(
    r"\.(?:log|err|out)(?:[.-]\d[\d-]*)?(?:\.(?:gz|xz|bz2|zst))?$|^(?:syslog|messages|access_log|error_log)"
)


def is_transient_directory(path: str) -> bool:
    """Whether all below the directory ``path`` (without leading slash) is made anew."""
    return path in TRANSIENT or posixpath.basename(path) in _TRANSIENT_NAMES


def is_transient_file(path: str) -> bool:
    """Whether the file ``path`` is made anew: caches, locks, pid files, histories of shells."""
    return path in TRANSIENT or _TRANSIENT_FILE.search(posixpath.basename(path)) is not None


def is_log(path: str) -> bool:
    """Whether the file is a log by its place or name."""
    return path.startswith("var/log/") or _LOG_FILE.search(posixpath.basename(path)) is not None


def named_as_data(path: str, below: str) -> bool:
    """Whether the file's name, or a directory between ``below`` and it, is one that data has."""
    inner = path[len(below) :].strip("/").split("/")
    return _DATA_FILE.search(inner[-1]) is not None or any(part.lower() in _DATA_NAMES for part in inner[:-1])


def data_root(path: str) -> str:
    """The directory that a program would keep the file ``path`` in, when its place alone says that it is data.

    Empty when the place says nothing.
    """
    parts = path.split("/")
    if len(parts) < 2:
        return ""
    top = parts[0]
    if top == "var" and len(parts) > 2:
        depth = 3 if parts[1] in ("lib", "log", "spool", "www", "mail", "games", "opt", "local") else 2
        return "/".join(parts[: min(depth, len(parts) - 1)])
    if top in ("srv", "mnt", "media"):
        return "/".join(parts[: min(2, len(parts) - 1)])
    if top == "home":
        return "/".join(parts[:2]) if len(parts) > 2 else ""
    if top == "root" or top in PROGRAM_ROOTS or top == "var":
        return "root" if top == "root" else ""
    return top
