"""Layers and images to audit, made of a few lines."""

from __future__ import annotations

import datetime
import hashlib
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

from tare.audit.auditing import Question, Subject, audit
from tare.audit.findings import Report
from tare.model.container import Container
from tare.oci.image import ExecutionConfig, History, ImageConfig, RootFS

TODAY = datetime.date(2026, 11, 25)


def file(name: str, data: bytes = b"", mode: int = 0o644, **more: object) -> tuple[tarfile.TarInfo, bytes]:
    """A regular file; ``more`` are attributes of the member, such as ``uid`` or ``pax_headers``."""
    return _member(name, tarfile.REGTYPE, data, mode=mode, **more)


def directory(name: str, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    return _member(name, tarfile.DIRTYPE, mode=mode)


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return _member(name, tarfile.SYMTYPE, mode=0o777, linkname=target)


def hardlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return _member(name, tarfile.LNKTYPE, linkname=target)


def device(name: str, major: int, minor: int) -> tuple[tarfile.TarInfo, bytes]:
    return _member(name, tarfile.CHRTYPE, mode=0o600, devmajor=major, devminor=minor)


def _member(name: str, kind: bytes, data: bytes = b"", **more: object) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, len(data)
    for key, value in more.items():
        setattr(member, key, value)
    return member, data


def tar(path: Path, members: Sequence[tuple[tarfile.TarInfo, bytes]]) -> Path:
    """Write a layer."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for member, data in members:
            archive.addfile(member, io.BytesIO(data))
    return path


def report_of(
    directory_: Path,
    *layers: Sequence[tuple[tarfile.TarInfo, bytes]],
    config: ExecutionConfig | None = None,
    question: Question | None = None,
    history: Sequence[str] = (),
    container: Container | None = None,
    upper: Path | None = None,
) -> Report:
    """Audit an image of these layers."""
    tars = tuple(tar(directory_ / f"{number}.tar", members) for number, members in enumerate(layers))
    digests = [f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in tars]
    steps = [History(created_by=text) for text in history]
    image = ImageConfig(
        architecture="amd64",
        os="linux",
        config=config or ExecutionConfig(entrypoint=["/app/server"], user="65532"),
        rootfs=RootFS(diff_ids=digests),
        history=steps,
    )
    size = sum(path.stat().st_size for path in tars)
    subject = Subject(image=image, tars=tars, size=size, container=container, upper=upper)
    return audit(subject, question or Question(), TODAY)


def told(report: Report) -> set[tuple[str, str]]:
    """Rule and path of all findings that no policy ignores."""
    return {(one.rule, one.path) for one in report.findings if not one.ignored}


def breaking(report: Report) -> set[tuple[str, str]]:
    """Rule and path of those that are more than low."""
    return {(one.rule, one.path) for one in report.findings if one.severity >= 2 and not one.ignored}
