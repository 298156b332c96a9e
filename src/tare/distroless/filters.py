"""Which files of packages an image leaves out, as data with reasons."""

from __future__ import annotations

from tare.archive.entry import Entry, Kind

SLIMMED = {
    "usr/share/doc/": "documentation; copyright files stay, licences ask for it",
    "usr/share/man/": "manual pages",
    "usr/share/groff/": "formatter of manual pages",
    "usr/share/info/": "manuals",
    "usr/share/lintian/": "notes for package checks",
    "usr/share/linda/": "notes for package checks",
    "usr/share/locale/": "translations of messages",
}
_KEPT = frozenset({"usr/share/locale/locale.alias"})

UNNEEDED = {
    **SLIMMED,
    "usr/share/bash-completion/": "for a shell that is not there",
    "usr/share/zsh/": "for a shell that is not there",
    "usr/share/fish/": "for a shell that is not there",
    "usr/share/bug/": "bug reporting",
    "usr/share/doc-base/": "register of documentation",
    "usr/share/menu/": "desktop menus",
    "usr/share/applications/": "desktop menus",
    "usr/share/pixmaps/": "desktop menus",
    "usr/share/icons/": "desktop menus",
    "usr/share/debconf/": "questions of maintainer scripts",
    "usr/share/gdb/": "debugger helpers",
    "usr/share/apport/": "crash reporting",
    "usr/share/initramfs-tools/": "boot",
    "usr/share/python3/": "byte-compilation by maintainer scripts",
    "usr/lib/x86_64-linux-gnu/glib-2.0/g": "programs that start desktop applications and index plugins and schemas",
    "usr/lib/aarch64-linux-gnu/glib-2.0/g": "programs that start desktop applications and index plugins and schemas",
    "usr/lib/init/": "boot",
    "usr/lib/systemd/system/": "a container runs no init system",
    "usr/lib/systemd/system-generators/": "a container runs no init system",
    "usr/lib/tmpfiles.d/": "a container runs no init system",
    "usr/lib/sysusers.d/": "a container runs no init system",
    "usr/lib/udev/": "a container has no device manager",
    "usr/lib/modules-load.d/": "boot",
    "etc/init.d/": "a container runs no init system",
    "etc/init/": "a container runs no init system",
    "etc/cron.d/": "a container runs no scheduler",
    "etc/cron.daily/": "a container runs no scheduler",
    "etc/cron.weekly/": "a container runs no scheduler",
    "etc/cron.monthly/": "a container runs no scheduler",
    "etc/logrotate.d/": "logs go to standard output",
    "etc/ufw/": "the firewall is outside",
    "etc/update-motd.d/": "nobody logs in",
    "etc/apparmor.d/": "profiles are loaded outside",
    "etc/dpkg/": "there is no package manager",
    "etc/apt/": "there is no package manager",
    "etc/insserv.conf.d/": "a container runs no init system",
    "etc/network/": "the engine configures the network",
    "usr/share/base-files/": "templates of maintainer scripts",
    "usr/share/perl5/": "for an interpreter that is not there",
    "usr/sbin/update-ca-certificates": "the bundle is written by the assembler",
    "usr/sbin/tzconfig": "a script of the package's administration",
    "etc/ca-certificates": "what update-ca-certificates reads",
}


def is_slimmed(entry: Entry) -> bool:
    """Whether ``tare.local/debian`` leaves this out: what a package's documentation directories hold."""
    return _is_below(entry, SLIMMED)


def is_unneeded(entry: Entry) -> bool:
    """Whether a distroless image leaves this out."""
    return _is_below(entry, UNNEEDED)


def _is_below(entry: Entry, prefixes: dict[str, str]) -> bool:
    path = entry.path
    prefix = next((prefix for prefix in prefixes if path.startswith(prefix)), None)
    if prefix is None or path in _KEPT:
        return False
    if prefix == "usr/share/doc/":
        # package directories stay for the copyright file, and links between them
        is_package_directory = path.count("/") == 3 and entry.kind in (Kind.DIRECTORY, Kind.SYMLINK)
        return not (path.endswith("/copyright") or is_package_directory)
    return True
