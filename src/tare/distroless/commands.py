"""Commands of maintainer scripts: what each of them changes, or why it does not matter in an image."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from tare.distroless.changes import Change, CopyFile, WriteFile
from tare.distroless.command_words import TEMPORARY, Matters, displayed, is_path
from tare.distroless.file_commands import FILE_COMMANDS
from tare.distroless.shell import Step
from tare.distroless.shell_syntax import UNKNOWN
from tare.distroless.system_commands import SYSTEM_COMMANDS

_READING = (
    "true false test [ : set unset trap cd umask alias break continue shift read exec wait times hash ulimit command"
    " builtin type which local export pwd getopts echo printf cat grep egrep fgrep zgrep cut sort uniq tr head tail wc"
    " basename dirname readlink realpath stat ls awk gawk mawk expr seq date uname id whoami getent hostname dpkg"
    " dpkg-query dpkg-architecture md5sum sha1sum sha256sum cmp diff comm file du df rev nl od getcap mktemp tempfile"
    " pidof ps kill killall sleep runlevel ischroot mountpoint tput stty tty locale arch nproc ldd ss netstat"
    " phpquery apt-config paperconf logger"
)
READING = frozenset(_READING.split())
"""They read, print, or steer the script; what they write goes through redirections, which are looked at for all."""

_IGNORED = (
    (
        "a container runs no init system",
        "deb-systemd-helper deb-systemd-invoke systemctl invoke-rc.d update-rc.d service start-stop-daemon telinit init"
        " initctl journalctl systemd-machine-id-setup update-inetd runit-helper policy-rc.d systemd-notify loginctl",
    ),
    (
        "kernel, devices and their rules are outside",
        "udevadm modprobe depmod sysctl update-initramfs update-grub systemd-hwdb update-binfmts restorecon"
        " apparmor_parser aa-enabled aa-status apparmor_status swapon swapoff",
    ),
    ("a container runs no message bus", "dbus-send dbus-uuidgen"),
    ("done from the files that declare it", "systemd-tmpfiles systemd-sysusers ldconfig"),
    ("it serves later upgrades", "dpkg-maintscript-helper dpkg-trigger ucfr ucfq install-info update-mime"),
    (
        "questions: the defaults hold",
        "db_get db_set db_go db_input db_stop db_version db_capb db_reset db_subst db_fset db_fget db_register"
        " db_unregister db_purge db_metaget db_title db_beginblock db_endblock db_settitle db_progress db_info db_text"
        " debconf-communicate debconf-show debconf-loadtemplate debconf-set-selections",
    ),
    (
        "bytecode: the interpreter makes it",
        "py3compile py3clean pycompile pyclean pypy3compile pypy3clean pypycompile",
    ),
    (
        "caches of desktops and fonts: programs do without",
        "update-icon-caches gtk-update-icon-cache update-desktop-database update-menus"
        " update-fonts-dir update-fonts-scale update-fonts-alias xdg-desktop-menu fc-cache mandb"
        " update-command-not-found gio-querymodules gtk-query-immodules-2.0 gtk-query-immodules-3.0",
    ),
    ("byte-compilation for an editor", "emacs-package-install emacs-package-remove emacs-install"),
    ("no file keeps capabilities: what needs them runs with --cap-add, or as root in its container", "setcap"),
)
IGNORED: Mapping[str, str] = {name: reason for reason, names in _IGNORED for name in names.split()}
"""Commands that are left out, by the last part of their path; each with its reason."""

ONLY_WITH: Mapping[str, tuple[str, str]] = {
    "glib-compile-schemas": ("usr/share/glib-2.0/schemas/*.gschema.xml", "the compiled settings of GSettings"),
    "gdk-pixbuf-query-loaders": (
        "usr/lib/*/gdk-pixbuf-2.0/*/loaders/*.so",
        "the list of image loaders",
    ),
    "update-mime-database": ("usr/share/mime/packages/*.xml", "the database of file types"),
}
"""Commands that matter only in an image with such files, and what is lost then."""


def changes_of(step: Step) -> list[Change]:
    """What the command changes, to be done in this order. Raises Matters."""
    name = step.words[0].rpartition("/")[2]
    if name == "command" and len(step.words) > 1 and not step.words[1].startswith("-"):
        name = step.words[1].rpartition("/")[2]
    if name in IGNORED or _compiles(step.words) or _serves(step.words):
        return []
    if (redirected := _redirected(step, name)) is not None:
        return redirected
    if name in READING or (name == "sed" and not _edits_in_place(step.words)):
        return []
    if name in (".", "source", "eval") and _is_quiet_source(step.words):
        return []
    if name in (".", "source") and len(step.words) > 1:
        raise Matters(f"what is in {displayed(step.words[1])}")
    handler = FILE_COMMANDS.get(name) or SYSTEM_COMMANDS.get(name)
    if handler is None:
        raise Matters(f"what {'a program that the script chooses' if UNKNOWN in step.words[0] else name} does")
    return handler([word for word in step.words[1:] if word])


def _compiles(words: Sequence[str]) -> bool:
    """Whether an interpreter only writes bytecode, which it makes by itself."""
    return any(word.endswith("/py_compile.py") for word in words)


def _serves(words: Sequence[str]) -> bool:
    """Whether it starts or stops a service."""
    program, last = words[0], words[-1]
    return program.startswith("/etc/init.d/") or (
        UNKNOWN in program and len(words) <= 3 and last in ("start", "stop", "restart", "reload", "force-reload")
    )


def _is_quiet_source(words: Sequence[str]) -> bool:
    """Whether a sourced file only sets variables or defines functions: libraries of scripts, settings."""
    place = words[1] if len(words) > 1 else ""
    return words[0] != "eval" and place.startswith(
        ("/usr/share/", "/etc/default/", "/lib/lsb/", "/etc/os-release", "/usr/lib/")
    )


def _edits_in_place(words: Sequence[str]) -> bool:
    return any(
        word.startswith(("-i", "--in-place")) or (word[:1] == "-" and word[1:2] in "nrE" and "i" in word)
        for word in words
    )


def _redirected(step: Step, name: str) -> list[Change] | None:
    """What is written by redirection; ``None`` when nothing is."""
    targets = [path for path in step.writes if not path.startswith(("/dev/", "/proc/", "/run/systemd/"))]
    if not targets:
        return None
    if name in READING and name not in ("echo", "printf", "cat", "true", ":") and UNKNOWN in targets[0]:
        return []
    if len(targets) > 1 or not is_path(targets[0]):
        raise Matters(f"what is written to {displayed(targets[0])}")
    path, text = targets[0], _printed(step, name)
    if text is None:
        if name == "cat" and len(step.words) == 2 and is_path(step.words[1]) and not step.appends:
            return [CopyFile(source=step.words[1], target=path)]
        if path.startswith(TEMPORARY):
            return []  # what is made of it later has no source then, and is lost
        raise Matters(f"the content of {path}")
    return [WriteFile(path=path, content=text.encode(), append=step.appends)]


def _printed(step: Step, name: str) -> str | None:
    """What the command prints, if that is known."""
    text: str | None = None
    match name:
        case "echo":
            words, end = list(step.words[1:]), "\n"
            if words and words[0] == "-n":
                words, end = words[1:], ""
            text = " ".join(words) + end
        case "cat" if step.document is not None and len(step.words) == 1:
            text = step.document
        case "true" | ":":
            text = ""
        case "printf" if len(step.words) == 2 and "%" not in step.words[1]:
            text = step.words[1].replace("\\n", "\n").replace("\\t", "\t")
    return None if text is None or UNKNOWN in text or "\\" in text else text


def shown(step: Step) -> str:
    """The command as people read it, cut to a line."""
    text = step.text if UNKNOWN in "".join(step.words) else shlex.join(step.words)
    return text if len(text) <= 100 else f"{text[:99]}…"
