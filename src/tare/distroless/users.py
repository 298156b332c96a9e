"""Users that an image has beyond those of its packages."""

from __future__ import annotations

from collections.abc import Sequence

from tare.archive.filetree import FileTree
from tare.errors import Conflict, InvalidArgument
from tare.model.assembly import SystemUser

_NO_HOME = "/nonexistent"


def add_users(tree: FileTree, users: Sequence[SystemUser]) -> None:
    """Add lines to passwd(5) and group(5), and the home directories.

    Raises Conflict for a name or number that another user or group has, InvalidArgument for what would break the files.
    """
    for user in users:
        if not user.name or set(user.name) & set(":\n/") or set(user.home) & set(":\n") or user.uid < 0:
            raise InvalidArgument(f"user {user.name!r} cannot be written to /etc/passwd", code="user-invalid")
        passwd, group = (tree.read(path).decode() for path in ("etc/passwd", "etc/group"))
        if f"{user.name}:x:{user.uid}:{user.uid}:" in passwd:
            continue  # the base has it
        _check_free(user, passwd, "/etc/passwd")
        _check_free(user, group, "/etc/group")
        line = f"{user.name}:x:{user.uid}:{user.uid}:{user.name}:{user.home}:/sbin/nologin\n"
        tree.add_file("etc/passwd", f"{passwd}{line}".encode())
        tree.add_file("etc/group", f"{group}{user.name}:x:{user.uid}:\n".encode())
        if user.home != _NO_HOME and tree.get(user.home) is None:
            tree.add_directory(user.home, mode=0o700, uid=user.uid, gid=user.uid)


def _check_free(user: SystemUser, text: str, path: str) -> None:
    for line in text.splitlines():
        name, _, number, *_ = line.split(":")
        if name == user.name or number == str(user.uid):
            raise Conflict(
                f"user {user.name} ({user.uid}): {path} has {name} ({number}) already",
                hint="choose another name or number",
                code="user-conflict",
            )
