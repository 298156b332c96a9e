"""dpkg's database for packages that were unpacked without dpkg (dpkg(1), deb-triggers(5)).

The state written is what ``dpkg --unpack`` leaves, with configuration files in place: ``dpkg --configure`` goes on
from there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from tare.archive.entry import Entry, Kind
from tare.archive.filetree import FileTree
from tare.distroless.control import render_paragraph
from tare.distroless.deb import Deb

ROOT = "var/lib/dpkg"
_NOT_KEPT = frozenset({"control", "md5sums.gz"})
_NOT_IN_STATUS = frozenset({"Filename", "Size", "MD5sum", "SHA256"})


def write_database(tree: FileTree, debs: Sequence[Deb]) -> None:
    """Add the database of the packages in ``debs``, all of them unpacked, to ``tree``."""
    for directory in ("info", "alternatives", "parts", "triggers", "updates"):
        tree.add_directory(f"{ROOT}/{directory}")
    tree.add_file(f"{ROOT}/info/format", b"1\n")
    for empty in ("available", "diversions", "statoverride"):
        tree.add_file(f"{ROOT}/{empty}", b"")
    status = []
    for deb in sorted(debs, key=lambda deb: deb.name):
        status.append(_status(deb))
        _write_info(tree, deb)
    tree.add_file(f"{ROOT}/status", "\n".join(status).encode() + b"\n")
    _write_triggers(tree, debs)


def qualified_name(deb: Deb) -> str:
    """The name in file names of the database: with architecture for packages that may be there twice."""
    architecture = deb.fields["Architecture"]
    return f"{deb.name}:{architecture}" if deb.fields.get("Multi-Arch") == "same" else deb.name


def conffiles(deb: Deb) -> list[str]:
    """The absolute paths of a package's configuration files; those that it only removes are left out."""
    lines = deb.control.get("conffiles", b"").decode("utf-8", "replace").splitlines()
    return [line.strip() for line in lines if line.startswith("/")]


def conffiles_field(deb: Deb, tree: FileTree) -> str:
    """The value of the field Conffiles: the package's configuration files in ``tree`` with their md5; may be empty."""
    listed = []
    for path in conffiles(deb):
        node = tree.get(path)
        if node is not None and node.entry.kind is Kind.FILE and node.owner in ("", deb.name):
            listed.append(f"\n {path} {hashlib.md5(tree.read(path), usedforsecurity=False).hexdigest()}")
    return "".join(listed)


def _status(deb: Deb) -> str:
    fields = {"Package": deb.name, "Status": "install ok unpacked"}
    fields.update((name, value) for name, value in deb.fields.items() if name not in _NOT_IN_STATUS)
    if listed := conffiles_field(deb, deb.tree):
        fields["Conffiles"] = listed
    description = fields.pop("Description", None)
    if description is not None:
        fields["Description"] = description
    return render_paragraph(fields)


def _write_info(tree: FileTree, deb: Deb) -> None:
    name = qualified_name(deb)
    for control, content in sorted(deb.control.items()):
        if control not in _NOT_KEPT:
            is_script = control in ("preinst", "postinst", "prerm", "postrm", "config")
            entry = Entry(
                path=f"{ROOT}/info/{name}.{control}",
                kind=Kind.FILE,
                mode=0o755 if is_script else 0o644,
                mtime=deb.built,
                size=len(content),
            )
            tree.add(entry, content)
    paths = "".join(f"/{node.entry.path}\n" for node in deb.tree)
    tree.add_file(f"{ROOT}/info/{name}.list", f"/.\n{paths}".encode("utf-8", "surrogateescape"))


def _write_triggers(tree: FileTree, debs: Sequence[Deb]) -> None:
    """What packages are interested in: paths in ``File``, names in a file each."""
    files: list[str] = []
    named: dict[str, list[str]] = {}
    for deb in sorted(debs, key=lambda deb: deb.name):
        for line in deb.control.get("triggers", b"").decode("utf-8", "replace").splitlines():
            directive, _, subject = line.partition("#")[0].strip().partition(" ")
            subject = subject.strip()
            if not directive.startswith("interest") or not subject:
                continue
            suffix = "/noawait" if directive == "interest-noawait" else ""
            if "/" in subject and not subject.startswith("/"):
                continue  # no name of a file of the database
            if subject.startswith("/"):
                files.append(f"{subject} {qualified_name(deb)}{suffix}\n")
            else:
                named.setdefault(subject, []).append(f"{qualified_name(deb)}{suffix}\n")
    tree.add_file(f"{ROOT}/triggers/File", "".join(files).encode())
    tree.add_file(f"{ROOT}/triggers/Unincorp", b"")
    for subject, lines in named.items():
        tree.add_file(f"{ROOT}/triggers/{subject}", "".join(lines).encode())
