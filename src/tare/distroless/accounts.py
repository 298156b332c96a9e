"""Users and groups of an image: the ones that every image has, Debian's fixed ones, and what packages declare.

A package's user gets the same number in every image, whatever else is in it, so that volumes keep their owners: the
number is taken from the name. Sources: passwd(5), group(5), sysusers.d(5), Debian Policy 9.2.2.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tare.errors import InvalidArgument, NotFound

_FIRST, _LAST = 200, 899
"""Numbers for users of packages; Debian gives 100 to 999 to them, in the order of installation. What is left free
belongs to users whose number is known."""

KNOWN_IDS: Mapping[str, int] = {"mysql": 999, "postgres": 999}
"""Numbers that the software's own images use: volumes fit both."""

_STATIC_USERS: Mapping[str, tuple[int, int, str, str]] = {
    "daemon": (1, 1, "daemon", "/usr/sbin"), "bin": (2, 2, "bin", "/bin"), "sys": (3, 3, "sys", "/dev"),
    "sync": (4, 65534, "sync", "/bin"), "games": (5, 60, "games", "/usr/games"),
    "man": (6, 12, "man", "/var/cache/man"), "lp": (7, 7, "lp", "/var/spool/lpd"), "mail": (8, 8, "mail", "/var/mail"),
    "news": (9, 9, "news", "/var/spool/news"), "uucp": (10, 10, "uucp", "/var/spool/uucp"),
    "proxy": (13, 13, "proxy", "/bin"), "www-data": (33, 33, "www-data", "/var/www"),
    "backup": (34, 34, "backup", "/var/backups"), "list": (38, 38, "Mailing List Manager", "/var/list"),
    "irc": (39, 39, "ircd", "/run/ircd"), "_apt": (42, 65534, "", "/nonexistent"),
}  # fmt: skip
"""base-passwd's users: number, group, comment, home. They are in an image only when something refers to them."""

_STATIC_GROUPS: Mapping[str, int] = {
    "daemon": 1, "bin": 2, "sys": 3, "adm": 4, "tty": 5, "disk": 6, "lp": 7, "mail": 8, "news": 9, "uucp": 10,
    "man": 12, "proxy": 13, "kmem": 15, "dialout": 20, "fax": 21, "voice": 22, "cdrom": 24, "floppy": 25, "tape": 26,
    "sudo": 27, "audio": 29, "dip": 30, "www-data": 33, "backup": 34, "operator": 37, "list": 38, "irc": 39, "src": 40,
    "shadow": 42, "utmp": 43, "video": 44, "sasl": 45, "plugdev": 46, "staff": 50, "games": 60, "users": 100,
    "nogroup": 65534,
}  # fmt: skip
_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}", re.IGNORECASE)
_ID_LIMIT = 1 << 31


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A line of passwd(5)."""

    name: str
    uid: int
    gid: int
    comment: str
    home: str


class Accounts:
    """The users and groups of one image. Not thread-safe."""

    def __init__(self) -> None:
        self._users: dict[str, Account] = {}
        self._groups: dict[str, int] = {}
        self._members: dict[str, list[str]] = {}
        for name, uid, home in (
            ("root", 0, "/root"),
            ("nobody", 65534, "/nonexistent"),
            ("nonroot", 65532, "/home/nonroot"),
        ):
            self.add_user(name, uid=uid, home=home, comment=name)

    def has_user(self, name: str) -> bool:
        """Whether there is such a user, or Debian has one with a fixed number."""
        return name in self._users or name in _STATIC_USERS

    def has_group(self, name: str) -> bool:
        """Whether there is such a group, or Debian has one with a fixed number."""
        return name in self._groups or name in _STATIC_GROUPS

    def add_user(self, name: str, *, uid: int | None = None, group: str = "", home: str, comment: str = "") -> Account:
        """Add a user unless it is there; without ``group`` it gets one of its own name and, if free, number.

        Raises InvalidArgument for a name or a number that passwd(5) cannot hold.
        """
        if name in self._users:
            return self._users[name]
        _check(name, home, comment)
        if name in _STATIC_USERS:
            uid, gid, comment, home = _STATIC_USERS[name]
            account = Account(name=name, uid=uid, gid=gid, comment=comment, home=home)
        else:
            if uid is None and not group:
                uid = self._groups.get(name)
            if uid is None or not 0 <= uid < _ID_LIMIT or uid in self._taken_uids():
                uid = self._free(name, own_group=not group)
            gid = self.gid(group) if group else self.add_group(name, uid)
            account = Account(name=name, uid=uid, gid=gid, comment=comment, home=home)
        self._users[name] = account
        for group_name, number in _STATIC_GROUPS.items():
            if number == account.gid and name in _STATIC_USERS:
                self._groups.setdefault(group_name, number)
        return account

    def add_group(self, name: str, gid: int | None = None) -> int:
        """Add a group unless it is there; gives its number. Raises InvalidArgument."""
        if name in self._groups:
            return self._groups[name]
        _check(name, "", "")
        if name in _STATIC_GROUPS:
            gid = _STATIC_GROUPS[name]
        elif gid is None:
            gid = self._users[name].uid if name in self._users else self._free(name, own_group=True)
        if not 0 <= gid < _ID_LIMIT:
            raise InvalidArgument(f"{gid} is no group number")
        self._groups[name] = gid
        return gid

    def add_member(self, user: str, group: str) -> None:
        """Make ``user`` a member of ``group``. Raises NotFound for a user that is not there."""
        self.uid(user)
        members = self._members.setdefault(group, [])
        self.gid(group)
        if user not in members:
            members.append(user)

    def uid(self, name: str) -> int:
        """The number of a user, given by name or number; Debian's fixed users come in by this. Raises NotFound."""
        if name.isdigit():
            return int(name)
        if name not in self._users and name in _STATIC_USERS:
            self.add_user(name, home="")
        if name not in self._users:
            raise NotFound(f"no user {name}")
        return self._users[name].uid

    def gid(self, name: str) -> int:
        """The number of a group, as :meth:`uid`. Raises NotFound."""
        if name.isdigit():
            return int(name)
        if name not in self._groups and name in _STATIC_GROUPS:
            self.add_group(name)
        if name not in self._groups:
            raise NotFound(f"no group {name}")
        return self._groups[name]

    def first_group(self, user: str) -> int:
        """The number of the user's own group. Raises NotFound."""
        self.uid(user)
        return int(user) if user.isdigit() else self._users[user].gid

    def passwd(self) -> bytes:
        """The text of ``/etc/passwd``."""
        lines = (f"{u.name}:x:{u.uid}:{u.gid}:{u.comment}:{u.home}:/sbin/nologin\n" for u in self._users.values())
        return "".join(lines).encode()

    def group(self) -> bytes:
        """The text of ``/etc/group``."""
        groups = {**self._groups, "tty": 5, "staff": 50}
        return "".join(
            f"{name}:x:{gid}:{','.join(self._members.get(name, ()))}\n" for name, gid in groups.items()
        ).encode()

    def _taken_uids(self) -> set[int]:
        return {user.uid for user in self._users.values()}

    def _free(self, name: str, *, own_group: bool) -> int:
        """A number that follows from ``name``: the next free one from its place in the range."""
        taken = self._taken_uids() | (set(self._groups.values()) if own_group else set())
        known = KNOWN_IDS.get(name)
        if known is not None and known not in taken:
            return known
        span = _LAST - _FIRST + 1
        start = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % span
        for step in range(span):
            number = _FIRST + (start + step) % span
            if number not in taken:
                return number
        raise InvalidArgument(f"no number is free for {name}")


def _check(name: str, home: str, comment: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidArgument(f"{name!r} is no name of a user or group")
    if any(character in text for text in (home, comment) for character in ":\n"):
        raise InvalidArgument(f"home or comment of {name} holds a colon or a new line")
