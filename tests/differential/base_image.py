"""The image that all cases build on: users, links, special modes, and Debian's static busybox.

Its files have fixed times, and recorded results name only what a build changed, so that they hold with any busybox.
"""

from __future__ import annotations

import io
import subprocess
import tarfile

from engine_process import BUSYBOX_PROGRAM

BASE = "differential/base:1"
MTIME = 1577836800
"""2020-01-01, the time of the base's files and of all context files that name no other."""

CHANGES = ("ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin", "ENV BASE=base", 'CMD ["sh"]', "LABEL base=1")
"""The base's configuration, as ``docker import`` takes it."""

PASSWD = b"root:x:0:0:root:/root:/bin/sh\napp:x:1500:1600:app:/home/app:/bin/sh\nguest:x:405:100::/home:/bin/sh\n"
GROUP = b"root:x:0:\nstaff:x:50:app\nusers:x:100:\napp:x:1600:\nextra:x:1700:app\n"

_DIRECTORIES = (
    ("bin", 0o755), ("dev", 0o755), ("etc", 0o755), ("home", 0o755), ("proc", 0o555), ("root", 0o700), ("sbin", 0o755),
    ("srv", 0o755), ("srv/base", 0o755), ("srv/base/deep", 0o755), ("srv/hard", 0o755), ("srv/private", 0o2750),
    ("sys", 0o555), ("tmp", 0o1777), ("usr", 0o755), ("usr/bin", 0o755), ("usr/lib", 0o755), ("usr/sbin", 0o755),
    ("var", 0o755), ("var/data", 0o755),
)  # fmt: skip
_FILES = (
    ("etc/passwd", PASSWD, 0o644), ("etc/group", GROUP, 0o644), ("etc/base.conf", b"base\n", 0o640),
    ("srv/base/one", b"one\n", 0o644), ("srv/base/deep/two", b"two\n", 0o644), ("srv/base/deep/three", b"3\n", 0o600),
    ("srv/hard/a", b"hard\n", 0o644), ("usr/bin/setuid", b"#!/bin/sh\n", 0o4755), ("var/data/file", b"data\n", 0o644),
)  # fmt: skip
_LINKS = (
    ("lib", "usr/lib"), ("srv/link", "base"), ("srv/absolute", "/srv/base"), ("srv/dangling", "/nowhere/at/all"),
    ("srv/filelink", "base/one"), ("srv/outside", "../../../../var"),
)  # fmt: skip


def base_rootfs() -> bytes:
    """The root file system as a tar, which depends on nothing but the busybox program."""
    applets = subprocess.run([str(BUSYBOX_PROGRAM), "--list-full"], capture_output=True, text=True, check=True).stdout
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, mode in _DIRECTORIES:
            _add(archive, name, tarfile.DIRTYPE, mode)
        _add(archive, "home/app", tarfile.DIRTYPE, 0o750, owner=(1500, 1600))
        for name, data, mode in _FILES:
            _add(archive, name, tarfile.REGTYPE, mode, data)
        _add(archive, "srv/hard/b", tarfile.LNKTYPE, 0o644, link="srv/hard/a")
        for name, target in _LINKS:
            _add(archive, name, tarfile.SYMTYPE, 0o777, link=target)
        _add(archive, "bin/busybox", tarfile.REGTYPE, 0o755, BUSYBOX_PROGRAM.resolve().read_bytes())
        for applet in sorted(set(applets.split()) - {"bin/busybox"}):
            if applet.startswith(("bin/", "sbin/", "usr/bin/", "usr/sbin/")):
                _add(archive, applet, tarfile.SYMTYPE, 0o777, link="/bin/busybox")
    return buffer.getvalue()


def _add(
    archive: tarfile.TarFile,
    name: str,
    kind: bytes,
    mode: int,
    data: bytes = b"",
    *,
    link: str = "",
    owner: tuple[int, int] = (0, 0),
) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.linkname, member.size, member.mtime = kind, mode, link, len(data), MTIME
    member.uid, member.gid = owner
    archive.addfile(member, io.BytesIO(data))
