"""What maintainer scripts would have done and a runtime needs, done declaratively."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from tare.archive.entry import Kind
from tare.archive.filetree import FileTree
from tare.distroless.certificates import java_trust_store, pem_bundle
from tare.errors import DataCorrupt

CA_DIRECTORY = "usr/share/ca-certificates/"
CA_BUNDLE = "etc/ssl/certs/ca-certificates.crt"
JAVA_TRUST_STORE = "etc/ssl/certs/java/cacerts"


@dataclass(frozen=True, slots=True)
class User:
    """A line of passwd(5); the group has the same name and number."""

    name: str
    uid: int
    home: str
    comment: str = ""


USERS = (
    User("root", 0, "/root", "root"),
    User("nobody", 65534, "/nonexistent", "nobody"),
    User("nonroot", 65532, "/home/nonroot", "nonroot"),
)
PACKAGE_USERS = {
    "nginx-common": User("www-data", 33, "/var/www", "www-data"),
    "mariadb-server-core": User("mysql", 999, "/var/lib/mysql", "MariaDB server"),
    "mariadb-server": User("mysql", 999, "/var/lib/mysql", "MariaDB server"),
}
"""Users that packages make for their daemons. ``www-data`` has Debian's static number; ``mysql`` has none, 999 is what
the images of MariaDB use, so that volumes can be shared with them."""

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


def apply_effects(tree: FileTree, packages: Collection[str], architecture: str, newest: int) -> None:
    """Complete ``tree`` for these packages; ``newest`` (seconds) dates what carries a date."""
    _identity(tree, [user for package, user in sorted(PACKAGE_USERS.items()) if package in packages])
    for package in sorted(packages):
        for path, mode, uid, gid in DIRECTORIES.get(package, ()):
            tree.add_directory(path, mode=mode, uid=uid, gid=gid)
        for path, target in LINKS.get(package, ()):
            _link(tree, path, target)
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


def _identity(tree: FileTree, daemons: list[User]) -> None:
    users = list(dict.fromkeys((*USERS, *daemons)))
    tree.add_file(
        "etc/passwd",
        "".join(f"{u.name}:x:{u.uid}:{u.uid}:{u.comment}:{u.home}:/sbin/nologin\n" for u in users).encode(),
    )
    groups = [*((user.name, user.uid) for user in users), ("tty", 5), ("staff", 50)]
    tree.add_file("etc/group", "".join(f"{name}:x:{gid}:\n" for name, gid in groups).encode())
    tree.add_file("etc/nsswitch.conf", b"passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n")
    tree.add_directory("tmp", mode=0o1777)
    tree.add_directory("var/tmp", mode=0o1777)
    tree.add_directory("root", mode=0o700)
    tree.add_directory("home/nonroot", mode=0o700, uid=65532, gid=65532)


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
