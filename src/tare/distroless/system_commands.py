"""Commands of maintainer scripts that change users, groups, alternatives, diversions and modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tare.distroless.changes import (
    AddGroup,
    AddMember,
    AddUser,
    Alternative,
    Change,
    ConfigurePam,
    Diversion,
    EnablePhpModule,
    SetMode,
    SetOwner,
)
from tare.distroless.command_words import (
    Matters,
    displayed,
    is_path,
    options_of,
    paths_of,
)
from tare.distroless.shell_syntax import UNKNOWN

_ACCOUNT_OPTIONS = (
    "home shell uid gid firstuid lastuid firstgid lastgid gecos comment ingroup conf groups home-dir home-prefix"
    " base-dir password"
)
_ACCOUNT_VALUES = _ACCOUNT_OPTIONS.split()


def _number(word: str | None) -> int | None:
    if word is None:
        return None
    if not word.isdigit():
        raise Matters(f"the number {displayed(word)}")
    return int(word)


def _adduser(words: list[str]) -> list[Change]:
    """adduser(8), whose ``--group`` takes no value."""
    options, names = options_of(words, "", _ACCOUNT_VALUES)
    if any(UNKNOWN in word for word in (*names, *options.values())) or not names:
        raise Matters(f"the user {displayed(names[0] if names else '')}")
    if len(names) == 2:
        return [AddMember(user=names[0], group=names[1])]
    if "system" not in options:
        if "group" in options:
            return [AddGroup(name=names[0], gid=_number(options.get("gid")))]
        raise Matters(f"the user {names[0]}")
    group = "" if "group" in options else options.get("ingroup", "nogroup")
    home = options.get("home", "/nonexistent")
    has_home = home != "/nonexistent" and "no-create-home" not in options
    uid, comment = _number(options.get("uid")), options.get("gecos", options.get("comment", ""))
    return [AddUser(name=names[0], uid=uid, group=group, home=home, comment=comment, make_home=has_home)]


def _addgroup(words: list[str]) -> list[Change]:
    options, names = options_of(words, "", _ACCOUNT_VALUES)
    if len(names) == 2:
        return [AddMember(user=names[0], group=names[1])]
    if len(names) != 1 or UNKNOWN in names[0]:
        raise Matters(f"the group {displayed(names[0] if names else '')}")
    return [AddGroup(name=names[0], gid=_number(options.get("gid")))]


def _useradd(words: list[str]) -> list[Change]:
    options, names = options_of(words, "bcdefgGkKpsuR", ["home-dir", "comment", "gid", "groups", "shell", "uid"])
    if len(names) != 1 or any(UNKNOWN in word for word in (*names, *options.values())):
        raise Matters(f"the user {displayed(names[0] if names else '')}")
    group = options.get("g", options.get("gid", ""))
    home = options.get("d", options.get("home-dir", "/nonexistent"))
    comment = options.get("c", options.get("comment", ""))
    uid = _number(options.get("u", options.get("uid")))
    makes_home = bool({"m", "create-home"} & options.keys()) and home != "/nonexistent"
    user = AddUser(name=names[0], uid=uid, group=group, home=home, comment=comment, make_home=makes_home)
    joined = options.get("G", options.get("groups", ""))
    return [user, *(AddMember(user=names[0], group=other) for other in joined.split(",") if other)]


def _groupadd(words: list[str]) -> list[Change]:
    options, names = options_of(words, "gKpR", ["gid"])
    if len(names) != 1 or UNKNOWN in names[0]:
        raise Matters(f"the group {displayed(names[0] if names else '')}")
    return [AddGroup(name=names[0], gid=_number(options.get("g", options.get("gid"))))]


def _usermod(words: list[str]) -> list[Change]:
    options, names = options_of(words, "cdegGpsu", ["groups", "home", "shell", "comment", "gid", "uid", "login"])
    joined = options.get("G", options.get("groups", ""))
    others = options.keys() - {"G", "groups", "a", "append", "s", "shell", "c", "comment", "L", "lock", "p", "e"}
    if len(names) != 1 or UNKNOWN in names[0] + joined or others:
        raise Matters(f"what changes about the user {displayed(names[0] if names else '')}")
    return [AddMember(user=names[0], group=group) for group in joined.split(",") if group]


def _gpasswd(words: list[str]) -> list[Change]:
    options, names = options_of(words, "adAM", ["add"])
    user = options.get("a", options.get("add", ""))
    if not user or len(names) != 1 or UNKNOWN in user + names[0]:
        raise Matters("the members of a group")
    return [AddMember(user=user, group=names[0])]


def _update_alternatives(words: list[str]) -> list[Change]:
    """Those in a script's ``--install``; what only chooses or removes does nothing on a new system."""
    pending = [word for word in words if word not in ("--quiet", "--verbose", "--force", "--skip-auto")]
    if "--install" not in pending:
        if {"--set", "--config"} & set(pending):
            raise Matters(f"the alternative {displayed(pending[-1])}")
        return []
    at = pending.index("--install") + 1
    given, rest = pending[at : at + 4], pending[at + 4 :]
    if len(given) != 4 or any(UNKNOWN in word for word in given) or not given[3].lstrip("-").isdigit():
        raise Matters(f"the alternative {displayed(given[1] if len(given) > 1 else '')}")
    link, name, path, priority = given
    slaves: list[tuple[str, str, str]] = []
    while rest:
        if rest[0] == "--slave" and len(rest) >= 4:
            slaves.append((rest[1], rest[2], rest[3]))
            rest = rest[4:]
        else:
            rest = rest[1:]
    known = tuple(slave for slave in slaves if UNKNOWN not in "".join(slave))
    paths_of([link, path], "the alternative")
    return [Alternative(name=name, link=link, path=path, priority=int(priority), slaves=known)]


def _dpkg_divert(words: list[str]) -> list[Change]:
    options, rest = options_of(words, "", ["divert", "package", "admindir", "instdir", "root"])
    if {"remove", "list", "listpackage", "truename"} & options.keys():
        return []
    if "no-rename" in options:
        return []
    if len(rest) != 1:
        raise Matters("a diverted file")
    (path,) = paths_of(rest, "the diverted file")
    target = options.get("divert", f"{path}.distrib")
    paths_of([target], "the diverted file")
    return [Diversion(path=path, target=target)]


def _dpkg_statoverride(words: list[str]) -> list[Change]:
    options, rest = options_of(words)
    if {"list", "remove"} & options.keys():
        return []
    if "add" not in options or len(rest) != 4 or any(UNKNOWN in word for word in rest):
        raise Matters(f"owner and mode of {displayed(rest[-1] if rest else '')}")
    user, group, mode, path = rest
    if "update" not in options:
        return []
    paths_of([path], "owner and mode of")
    return [SetOwner(path=path, user=user, group=group), SetMode(path=path, mode=mode)]


def _configure_symlinks(words: list[str]) -> list[Change]:
    """mysql-common's way to call update-alternatives."""
    if len(words) != 3 or words[0] != "install" or not is_path(words[2]):
        raise Matters("which configuration /etc/mysql/my.cnf is")
    priority = {"mysql": 300, "mariadb": 500}.get(words[1], 200)
    return [Alternative(name="my.cnf", link="/etc/mysql/my.cnf", path=words[2], priority=priority)]


def _php_invoke(words: list[str]) -> list[Change]:
    """php-helper's ``php_invoke enmod VERSION SAPI MODULE``."""
    if len(words) != 4 or words[0] != "enmod":
        raise Matters(f"what {' '.join(map(displayed, words))} does to PHP's modules")
    if words[2] != "ALL":
        return []  # a SAPI enables the modules that are there: their own scripts do so for all
    if UNKNOWN in "".join(words):
        raise Matters("a module of PHP")
    return [EnablePhpModule(version=words[1], module=words[3])]


def _pam_auth_update(words: list[str]) -> list[Change]:
    """What packages call; ``--enable`` and the like are a choice of an administrator's."""
    if "--package" not in words or {"--enable", "--disable", "--remove"} & set(words):
        raise Matters("the configuration of PAM")
    return [ConfigurePam()]


SYSTEM_COMMANDS: Mapping[str, Callable[[list[str]], list[Change]]] = {
    "adduser": _adduser,
    "addgroup": _addgroup,
    "useradd": _useradd,
    "groupadd": _groupadd,
    "usermod": _usermod,
    "gpasswd": _gpasswd,
    "update-alternatives": _update_alternatives,
    "dpkg-divert": _dpkg_divert,
    "dpkg-statoverride": _dpkg_statoverride,
    "configure-symlinks": _configure_symlinks,
    "php_invoke": _php_invoke,
    "pam-auth-update": _pam_auth_update,
}
"""Each command's changes, by its name; they raise Matters."""
