"""What makes a package's daemon a container's service: user, directories, configuration; applied to the tree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tare.archive.entry import Kind
from tare.archive.filetree import FileTree
from tare.errors import DataCorrupt

NONROOT = 65532
"""The user of ``-nonroot`` images, as in Google's distroless images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """In a package's configuration file ``old``, which is there exactly once, is replaced by ``new``.

    ``variant`` is the one that it is for.
    """

    path: str
    old: str
    new: str
    variant: Literal["nonroot", "debug"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A daemon in a container.

    ``user`` is its user, ``uid`` the user's number (the group's, too). With ``starts_as_root`` the image runs as root
    and the daemon takes the user itself; ``nonroot`` images run as 65532, which then owns the ``directories`` (path →
    mode). ``files`` and ``links`` are added: path → text, path → target. ``ports`` are written as in EXPOSE
    (``5432/tcp``); ``nonroot_ports`` go before them where the image runs as 65532.
    """

    user: str
    uid: int
    home: str
    starts_as_root: bool = False
    directories: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    edits: tuple[Edit, ...] = ()
    ports: tuple[str, ...] = ()
    nonroot_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""

    def runs_as(self, *, nonroot: bool) -> int:
        """The user id that the image starts with."""
        if nonroot:
            return NONROOT
        return 0 if self.starts_as_root else self.uid

    def exposed(self, *, nonroot: bool) -> tuple[str, ...]:
        """The ports that the daemon listens on."""
        return (nonroot and self.nonroot_ports) or self.ports


def _nginx_edit(old: str, new: str, *, path: str = "etc/nginx/nginx.conf") -> Edit:
    return Edit(path=path, old=old, new=new, variant="nonroot")


_NGINX_SITE = "etc/nginx/sites-available/default"
_NGINX_TEMPORARY = "".join(
    f"\t{kind}_temp_path /tmp/nginx-{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
)

NGINX = Service(
    user="www-data",
    uid=33,
    home="/var/www",
    starts_as_root=True,
    directories={"var/lib/nginx": 0o755, "var/log/nginx": 0o755},
    # As in nginx's own images: the engine keeps the log.
    links={"var/log/nginx/access.log": "/dev/stdout", "var/log/nginx/error.log": "/dev/stderr"},
    # Not every engine lets others than root listen below 1024; all that is written goes to /tmp.
    edits=(
        _nginx_edit("user www-data;\n", ""),
        _nginx_edit("pid /run/nginx.pid;\n", "pid /tmp/nginx.pid;\n"),
        _nginx_edit("\nhttp {\n", f"\nhttp {{\n\n{_NGINX_TEMPORARY}"),
        _nginx_edit("\tlisten 80 default_server;\n", "\tlisten 8080 default_server;\n", path=_NGINX_SITE),
        _nginx_edit("\tlisten [::]:80 default_server;\n", "\tlisten [::]:8080 default_server;\n", path=_NGINX_SITE),
    ),
    ports=("80/tcp",),
    nonroot_ports=("8080/tcp",),
    stop_signal="SIGQUIT",  # lets requests end; TERM breaks them off
)

_POSTGRESQL_SHARE = "usr/share/postgresql/15"
_LOCAL_CLIENTS = "# IPv6 local connections:\n"

POSTGRESQL = Service(
    user="postgres",
    uid=999,  # Debian gives it any free number; PostgreSQL's own images have 999, so that volumes fit both
    home="/var/lib/postgresql",
    directories={"var/lib/postgresql": 0o755, "var/lib/postgresql/data": 0o700, "run/postgresql": 0o775},
    links={"var/run": "/run"},
    # For initdb: a server that only its own container reaches serves nobody; whoever comes over the network needs a
    # password, whatever initdb is told about the rest.
    edits=(
        Edit(
            path=f"{_POSTGRESQL_SHARE}/postgresql.conf.sample",
            old="#listen_addresses = 'localhost'",
            new="listen_addresses = '*'",
            variant="debug",
        ),
        Edit(
            path=f"{_POSTGRESQL_SHARE}/pg_hba.conf.sample",
            old=_LOCAL_CLIENTS,
            new=f"# other containers:\nhost    all             all             all                     scram-sha-256\n"
            f"{_LOCAL_CLIENTS}",
            variant="debug",
        ),
    ),
    ports=("5432/tcp",),
    volumes=("/var/lib/postgresql/data",),
    stop_signal="SIGINT",  # the fast shutdown; TERM waits until all clients have gone
)

_MARIADB_CONFIGURATION = """\
# What a container needs; later files in this directory go before it.
[mariadbd]
socket = /run/mysqld/mysqld.sock
pid-file = /run/mysqld/mysqld.pid
# Clients are other containers, whose addresses change: no names are looked up or remembered.
skip-name-resolve
host-cache-size = 0
character-set-server = utf8mb4
"""

MARIADB = Service(
    user="mysql",
    uid=999,
    home="/var/lib/mysql",
    directories={"var/lib/mysql": 0o755, "run/mysqld": 0o755},
    files={"etc/mysql/mariadb.conf.d/05-container.cnf": _MARIADB_CONFIGURATION},
    ports=("3306/tcp",),
    volumes=("/var/lib/mysql",),
)


def apply_service(tree: FileTree, service: Service, *, nonroot: bool, debug: bool) -> None:
    """Put the service's user, directories, files, links and edits into ``tree``.

    Raises DataCorrupt when a package's configuration is not as an edit expects it.
    """
    _add_user(tree, service)
    owner = NONROOT if nonroot else service.uid
    for path, target in service.links.items():
        _link(tree, path, target)
    for path, mode in service.directories.items():
        tree.add_directory(path, mode=mode, uid=owner, gid=owner)
    for path, text in service.files.items():
        tree.add_file(path, text.encode())
    for edit in service.edits:
        if nonroot if edit.variant == "nonroot" else debug:
            _edit(tree, edit)


def _link(tree: FileTree, path: str, target: str) -> None:
    """Make the link; an empty directory in its place makes way. Raises Conflict for one that is not empty."""
    present = tree.get(path)
    if present is not None and present.entry.kind is Kind.DIRECTORY:
        below = present.entry.path + "/"
        if not any(node.entry.path.startswith(below) for node in tree):
            tree.remove(path)
    tree.add_symlink(path, target)


def _add_user(tree: FileTree, service: Service) -> None:
    name, uid = service.user, service.uid
    lines = {
        "etc/passwd": f"{name}:x:{uid}:{uid}:{name}:{service.home}:/sbin/nologin\n",
        "etc/group": f"{name}:x:{uid}:\n",
    }
    for path, line in lines.items():
        present = tree.read(path)
        if f"\n{name}:".encode() not in b"\n" + present:
            tree.add_file(path, present + line.encode())


def _edit(tree: FileTree, edit: Edit) -> None:
    text = tree.read(edit.path).decode()
    if text.count(edit.old) != 1:
        raise DataCorrupt(
            f"/{edit.path}: expected {edit.old.strip()!r} once, found it {text.count(edit.old)} times",
            hint="the package has changed; use tare.local/deb/… with a configuration of your own",
            code="recipe-outdated",
        )
    node = tree.get(edit.path)
    assert node is not None
    changed = text.replace(edit.old, edit.new).encode()
    tree.add_file(edit.path, changed, mode=node.entry.mode)
