"""What maintainer scripts would have done and a runtime needs, done declaratively."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from tare.archive.entry import Kind
from tare.archive.filetree import FileTree
from tare.distroless.accounts import Accounts
from tare.distroless.alternatives import apply_alternatives
from tare.distroless.certificates import java_trust_store, pem_bundle
from tare.distroless.changes import AddGroup, AddUser, Alternative, Change, CopyFile, Diversion, apply_change
from tare.distroless.command_words import TEMPORARY
from tare.distroless.deb import Deb
from tare.distroless.declarations import declared_changes
from tare.distroless.ldcache import write_loader_cache
from tare.distroless.scripts import Loss, read_scripts
from tare.errors import Conflict, DataCorrupt, InvalidArgument, NotFound, TareError, Unsupported

CA_DIRECTORY = "usr/share/ca-certificates/"
CA_BUNDLE = "etc/ssl/certs/ca-certificates.crt"
JAVA_TRUST_STORE = "etc/ssl/certs/java/cacerts"
_INIT_SYSTEM = "systemd"  # what it declares is for a system that it starts
_SHOWN_LOSSES = 3  # of each package in a message


PACKAGE_USERS: dict[str, AddUser] = {
    "mariadb-server-core": AddUser(name="mysql", home="/var/lib/mysql", comment="MariaDB server"),
    "mariadb-server": AddUser(name="mysql", home="/var/lib/mysql", comment="MariaDB server"),
}
"""Users for daemons whose own package makes none."""

LINKS: dict[str, tuple[tuple[str, str], ...]] = {
    "mysql-common": (("etc/mysql/my.cnf", "mariadb.cnf"),),
    "nginx-common": (("etc/nginx/sites-enabled/default", "/etc/nginx/sites-available/default"),),
    "nodejs": (("usr/bin/nodejs", "node"),),
}
"""Links that update-alternatives or postinst scripts make, by package; only where the target exists."""

DIRECTORIES: dict[str, tuple[tuple[str, int, int, int], ...]] = {
    "nginx-common": (("var/log/nginx", 0o755, 33, 33), ("var/lib/nginx", 0o755, 33, 33)),
    "mariadb-server-core": (("var/lib/mysql", 0o755, 999, 999), ("run/mysqld", 0o755, 999, 999)),
}
"""Directories that daemons expect: path, mode, owner, group."""


def apply_effects(tree: FileTree, debs: Sequence[Deb], architecture: str, newest: int) -> list[Loss]:
    """Complete ``tree`` for these packages; ``newest`` (seconds) dates what carries a date.

    Gives what their scripts would have done beyond that, for :func:`check_losses`.
    """
    packages = {deb.name for deb in debs}
    accounts = Accounts()
    _base(tree)
    losses = _apply_scripts(tree, debs, accounts)
    tree.add_directory("tmp", mode=0o1777)
    for package in sorted(packages):
        for path, mode, uid, gid in DIRECTORIES.get(package, ()):
            tree.add_directory(path, mode=mode, uid=uid, gid=gid)
        for path, target in LINKS.get(package, ()):
            _link(tree, path, target)
    if any(node.entry.path.endswith("/libc.so.6") for node in tree):
        write_loader_cache(tree, architecture)
    certificates = _take_certificates(tree)
    if certificates:
        tree.add_file(CA_BUNDLE, pem_bundle(certificates))
    effects: dict[str, Callable[[], None]] = {
        "tzdata": lambda: _time_zone(tree),
        "nginx-common": lambda: _nginx(tree),
    }
    for package, effect in effects.items():
        if package in packages:
            effect()
    for package in sorted(packages):
        if package.startswith("openjdk-") and package.endswith("-jre-headless"):
            version = package.split("-")[1]
            _link(tree, "usr/bin/java", f"/usr/lib/jvm/java-{version}-openjdk-{architecture}/bin/java")
            tree.add_file(JAVA_TRUST_STORE, java_trust_store(certificates, newest))
    tree.add_file("etc/passwd", accounts.passwd())
    tree.add_file("etc/group", accounts.group())
    return losses


def check_losses(losses: Sequence[Loss], accepted: Collection[str]) -> None:
    """Raise Unsupported, naming packages, commands and what is lost, unless all these packages are ``accepted``."""
    by_package: dict[str, list[Loss]] = {}
    for loss in losses:
        if loss.package not in accepted:
            by_package.setdefault(loss.package, []).append(loss)
    if not by_package:
        return
    parts = []
    for package, lost in sorted(by_package.items()):
        more = f"; and {len(lost) - _SHOWN_LOSSES} more" if len(lost) > _SHOWN_LOSSES else ""
        parts.append(f"{package}: {'; '.join(map(str, lost[:_SHOWN_LOSSES]))}{more}")
    names = ", ".join(sorted(by_package))
    raise Unsupported(
        f"maintainer scripts that matter, and do not run: {'. '.join(parts)}",
        hint=f"do without it by accept-scripts: [{names}] in distroless.yaml and make there what the image needs of it,"
        " or copy the result of a build stage on tare.local/debian",
        code="script-matters",
    )


def divert(debs: Sequence[Deb]) -> list[Deb]:
    """The packages with the files moved that others of them divert (dpkg-divert(1))."""
    moves = {
        (planned.change.path.strip("/"), deb.name): planned.change.target.strip("/")
        for deb in debs
        if any(b"dpkg-divert" in deb.control.get(name, b"") for name in ("preinst", "postinst"))
        for planned in read_scripts(deb).changes
        if isinstance(planned.change, Diversion)
    }
    return [_diverted(deb, moves) for deb in debs] if moves else list(debs)


def _diverted(deb: Deb, moves: Mapping[tuple[str, str], str]) -> Deb:
    mine = {path: target for (path, owner), target in moves.items() if owner != deb.name and path in deb.tree}
    if not mine:
        return deb
    tree = FileTree()
    for node in deb.tree:
        path = mine.get(node.entry.path, node.entry.path)
        target = (
            mine.get(node.entry.target, node.entry.target) if node.entry.kind is Kind.HARDLINK else node.entry.target
        )
        tree.add(replace(node.entry, path=path, target=target), node.content, owner=node.owner)
    return replace(deb, tree=tree)


def _apply_scripts(tree: FileTree, debs: Sequence[Deb], accounts: Accounts) -> list[Loss]:
    """Do what scripts and declarations of the packages would have done: users first, then the rest by package."""
    ordered = sorted(debs, key=lambda deb: deb.name)
    scripts = [(deb, read_scripts(deb, tree)) for deb in ordered]
    losses = [loss for _, script in scripts for loss in script.losses if _applies(tree, loss)]
    declared = {deb.name: [] if deb.name == _INIT_SYSTEM else declared_changes(deb.tree) for deb in ordered}
    for users in (True, False):
        for deb, script in scripts:
            for planned in script.changes:
                if isinstance(planned.change, AddUser | AddGroup) is not users:
                    continue
                try:
                    apply_change(tree, planned.change, accounts, deb.tree)
                except (NotFound, InvalidArgument, Conflict) as error:
                    if planned.is_certain or _is_of_temporary(planned.change):
                        losses.append(replace(planned.loss, what=_lost(planned.change, error)))
            if script.changes:
                tree.remove(TEMPORARY)
        for deb, _ in scripts:
            for change in (*([PACKAGE_USERS[deb.name]] if deb.name in PACKAGE_USERS else []), *declared[deb.name]):
                if isinstance(change, AddUser | AddGroup) is users:
                    # systemd's tools skip a line that fails
                    with contextlib.suppress(NotFound, InvalidArgument, Conflict):
                        apply_change(tree, change, accounts, deb.tree)
    offered = [p.change for _, script in scripts for p in script.changes if isinstance(p.change, Alternative)]
    apply_alternatives(tree, offered)
    return losses


def _is_of_temporary(change: Change) -> bool:
    """Whether it takes a file that the script has made before, of what is not known."""
    return isinstance(change, CopyFile) and change.source.startswith(TEMPORARY)


def _lost(change: Change, error: TareError) -> str:
    if isinstance(change, CopyFile) and _is_of_temporary(change):
        return f"the content of {change.target}"
    return error.message


def _applies(tree: FileTree, loss: Loss) -> bool:
    return not loss.only_with or any(fnmatchcase(node.entry.path, loss.only_with) for node in tree)


def _base(tree: FileTree) -> None:
    """What every image has, as base-files' and base-passwd's scripts would make it."""
    tree.add_file("etc/nsswitch.conf", b"passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n")
    tree.add_directory("var/tmp", mode=0o1777)
    tree.add_directory("root", mode=0o700)
    tree.add_directory("home/nonroot", mode=0o700, uid=65532, gid=65532)
    tree.add_directory("run/lock", mode=0o1777)
    for path, target in (("var/run", "/run"), ("var/lock", "/run/lock")):
        if tree.get(path) is None:
            tree.add_symlink(path, target)


def _link(tree: FileTree, path: str, target: str) -> None:
    place = target if target.startswith("/") else f"{path.rpartition('/')[0]}/{target}"
    if tree.get(tree.resolve(place)) is not None and tree.get(path) is None:
        tree.add_symlink(path, target)


def _take_certificates(tree: FileTree) -> dict[str, bytes]:
    """The certificates of ca-certificates by file name; they leave the tree, the bundle has them."""
    found = {
        node.entry.path.rpartition("/")[2].removesuffix(".crt"): tree.read(node.entry.path, limit=1 << 20)
        for node in tree
        if node.entry.path.startswith(CA_DIRECTORY)
        and node.entry.path.endswith(".crt")
        and node.entry.kind is Kind.FILE
    }
    if "usr/share/ca-certificates" in tree and not found:
        raise DataCorrupt("ca-certificates holds no certificates")
    tree.remove(CA_DIRECTORY)
    return found


def _time_zone(tree: FileTree) -> None:
    tree.add_symlink("etc/localtime", "/usr/share/zoneinfo/Etc/UTC")
    tree.add_file("etc/timezone", b"Etc/UTC\n")


def _nginx(tree: FileTree) -> None:
    """The modules that are there are enabled, and the page that says so is put in place."""
    prefix = "usr/share/nginx/modules-available/"
    for node in list(tree):
        path = node.entry.path
        if path.startswith(prefix) and path.endswith(".conf"):
            tree.add_symlink(f"etc/nginx/modules-enabled/50-{path.removeprefix(prefix)}", f"/{path}")
    if "usr/share/nginx/html/index.html" in tree:
        page = tree.read("usr/share/nginx/html/index.html")
        tree.add_file("var/www/html/index.nginx-debian.html", page)
