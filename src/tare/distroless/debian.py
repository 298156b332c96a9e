"""A normal, configured Debian: what goes into the tree, how it is configured, what of that run must not stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tare.archive.entry import Entry, Kind
from tare.archive.filetree import FileTree
from tare.distroless.control import render_paragraph
from tare.distroless.deb import Deb
from tare.distroless.dpkg import write_database
from tare.distroless.filters import is_slimmed
from tare.distroless.relations import parse_relations
from tare.distroless.settings import ArchiveSource

USRMERGE = ("bin", "sbin", "lib")
USRMERGE_BY_ARCHITECTURE = {"amd64": ("lib64",), "arm64": (), "armhf": (), "i386": ()}
SEED = ("usr-is-merged", "apt", "debian-archive-keyring")
"""Wanted beside the essential and required packages. ``usr-is-merged`` stands first, before the alternative that
converts a running system."""

ENVIRONMENT = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LC_ALL=C.UTF-8",
    "DEBIAN_FRONTEND=noninteractive",
    "DEBCONF_NONINTERACTIVE_SEEN=true",
)
CONFIGURE = """set -eu
sh /var/lib/dpkg/info/base-passwd.preinst install
for package in base-passwd base-files libc6 perl-base mawk debconf; do
    dpkg --force-depends --configure "$package"
done
dpkg --configure --pending
dpkg --audit
"""
"""The second stage. The packages that every other script relies on are configured first, in the order in which they
need each other; dpkg orders the rest. Only base-passwd has a preinst that matters on a new system."""

_CLEAN = "/bin/rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"
CONFIGURATION = {
    # services are started by nobody in a container
    "usr/sbin/policy-rc.d": "#!/bin/sh\n# no service is started while packages are installed\nexit 101\n",
    "etc/apt/apt.conf.d/docker-clean": (
        "// downloaded packages and caches would only make layers larger\n"
        f'DPkg::Post-Invoke {{ "{_CLEAN}"; }};\n'
        f'APT::Update::Post-Invoke {{ "{_CLEAN}"; }};\n'
        'Dir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n'
    ),
    "etc/apt/apt.conf.d/docker-gzip-indexes": 'Acquire::GzipIndexes "true";\n',
    "etc/apt/apt.conf.d/docker-no-languages": 'Acquire::Languages "none";\n',
    "etc/apt/apt.conf.d/docker-autoremove-suggests": 'Apt::AutoRemove::SuggestsImportant "false";\n',
    "etc/dpkg/dpkg.cfg.d/docker-apt-speedup": "force-unsafe-io\n",
}
_REMOVED = (
    "etc/machine-id",
    "etc/resolv.conf",
    "etc/hostname",
    "etc/hosts",
    "etc/mtab",
    "var/cache/ldconfig/aux-cache",
    "var/cache/apt/pkgcache.bin",
    "var/cache/apt/srcpkgcache.bin",
    "var/lib/dpkg/lock",
    "var/lib/dpkg/lock-frontend",
    "var/lib/dpkg/triggers/Lock",
    "var/lib/systemd/random-seed",
    ".dockerenv",
)
_EMPTIED = ("var/log", "run", "tmp", "var/tmp", "dev", "proc", "sys")
_KEPT_LOGS = frozenset({"var/log/btmp", "var/log/lastlog", "var/log/wtmp", "var/log/faillog", "var/log/apt"})
_BACKUPS = ("etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/subuid-", "etc/subgid-")


def merged_usr(architecture: str) -> FileTree:
    """An empty tree with the links of a merged /usr system."""
    tree = FileTree()
    for name in (*USRMERGE, *USRMERGE_BY_ARCHITECTURE.get(architecture, ())):
        tree.add_directory(f"usr/{name}")
        tree.add_symlink(name, f"usr/{name}")
    return tree


def merge_packages(tree: FileTree, debs: Sequence[Deb]) -> None:
    """Put the packages' trees together; raises Conflict when two claim one path and neither may replace the other."""
    replaced = {
        deb.name: frozenset(
            relation.name for group in parse_relations(deb.fields.get("Replaces", "")) for relation in group
        )
        for deb in debs
    }
    for deb in sorted(debs, key=lambda deb: deb.name):
        tree.merge(deb.tree, may_replace=lambda new, old: old in replaced.get(new, ()))


def unpacked_tree(debs: Sequence[Deb], sources: Sequence[ArchiveSource], keyring: str, architecture: str) -> FileTree:
    """The tree before its second stage: all packages unpacked, dpkg's database, apt's and dpkg's configuration."""
    tree = merged_usr(architecture)
    merge_packages(tree, debs)
    write_database(tree, debs)
    for path, text in CONFIGURATION.items():
        tree.add_file(path, text.encode(), mode=0o755 if path.endswith("policy-rc.d") else 0o644)
    tree.add_file("etc/dpkg/dpkg.cfg.d/docker", _slim_configuration().encode())
    tree.discard([node.entry.path for node in tree if is_slimmed(node.entry)])
    for section in range(1, 10):
        # update-alternatives fails in the postinst of packages such as openjdk when it cannot link a manual page here
        tree.add_directory(f"usr/share/man/man{section}")
    tree.add_file("etc/apt/sources.list.d/debian.sources", render_sources(sources, keyring).encode())
    return tree


def render_sources(sources: Sequence[ArchiveSource], keyring: str) -> str:
    """The sources as deb822 text, suites of one archive together."""
    by_archive: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for source in sources:
        by_archive.setdefault((source.uri, source.components), []).append(source.suite)
    paragraphs = [
        {
            "Types": "deb",
            "URIs": uri,
            "Suites": " ".join(suites),
            "Components": " ".join(components),
            "Signed-By": keyring,
        }
        for (uri, components), suites in by_archive.items()
    ]
    return "\n".join(render_paragraph(paragraph) for paragraph in paragraphs)


def normalise(tree: FileTree, newest: int) -> None:
    """Take away what depends on the moment and the machine of the run; ``newest`` is in seconds since the epoch."""
    gone = [node.entry.path for node in tree if _is_transient(node.entry)]
    tree.discard(gone)
    for path in ("etc/shadow",):
        node = tree.get(path)
        if node is not None:
            text = _without_dates(tree.read(path).decode(), newest)
            tree.add(replace(node.entry, size=len(text.encode())), text.encode())
    tree.clamp(newest)


def _is_transient(entry: Entry) -> bool:
    path = entry.path
    if path in _REMOVED or path in _BACKUPS:
        return True
    if path.startswith(("var/lib/dpkg/", "var/cache/debconf/")) and path.endswith("-old"):
        return True
    if path in _KEPT_LOGS:
        return False
    if path.startswith("var/log/"):
        return entry.kind is not Kind.DIRECTORY
    if path.startswith("run/"):
        return path != "run/lock"
    return path.startswith(tuple(f"{name}/" for name in _EMPTIED))


def _without_dates(shadow: str, newest: int) -> str:
    """shadow(5) with every date of the last password change set to the day of ``newest``."""
    lines = []
    for line in shadow.splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2].isdigit():
            fields[2] = str(newest // 86400)
        lines.append(":".join(fields) + "\n")
    return "".join(lines)


def _slim_configuration() -> str:
    return (
        "# what the image lacks, packages installed later lack too\n"
        "path-exclude /usr/share/doc/*\npath-include /usr/share/doc/*/copyright\n"
        "path-exclude /usr/share/man/*\npath-exclude /usr/share/groff/*\npath-exclude /usr/share/info/*\n"
        "path-exclude /usr/share/lintian/*\npath-exclude /usr/share/linda/*\n"
        "path-exclude /usr/share/locale/*\npath-include /usr/share/locale/locale.alias\n"
    )
