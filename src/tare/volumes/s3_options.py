"""Options of the ``s3`` driver, and what they become on the command line of s3fs(1)."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tare.errors import Forbidden, InvalidArgument, NotFound

_PATTERNS = {
    "bucket": re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"),
    "endpoint": re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+(?:/[A-Za-z0-9._~/-]*)?"),
    "prefix": re.compile(r"/?[A-Za-z0-9!_.*()~-]+(?:/[A-Za-z0-9!_.*()~-]+)*/?"),
    "region": re.compile(r"[a-z0-9-]{1,64}"),
    "credentials-file": re.compile(r"/[^,\n]+"),
    "path-style": re.compile(r"true|false"),
}
_REQUIRED = ("bucket", "credentials-file")
_CREDENTIALS = re.compile(rb"[^:\s#]+:\S+")
_MAX_CREDENTIALS = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Options:
    """A bucket, or what is below ``prefix`` in it; ``credentials`` is a file with a line ``ACCESS_KEY:SECRET_KEY``."""

    bucket: str
    credentials: Path
    endpoint: str = "https://s3.amazonaws.com"
    prefix: str = ""
    region: str = ""
    path_style: bool = True

    @property
    def what(self) -> str:
        """The bucket as people write it."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/") + f" at {self.endpoint}"

    def command(self, target: Path, log: Path) -> list[str]:
        """How s3fs is started; it goes to the background by itself. No secret is on it."""
        words = [
            f"passwd_file={self.credentials}",
            f"url={self.endpoint}",
            f"logfile={log}",
            "allow_other",
            "complement_stat",
            "connect_timeout=10",
            "readwrite_timeout=30",
            "retries=2",
        ]
        if self.path_style:
            words.append("use_path_request_style")
        if self.region:
            words.append(f"endpoint={self.region}")
        source = f"{self.bucket}:/{self.prefix}" if self.prefix else self.bucket
        return ["s3fs", source, os.fspath(target), *(part for word in words for part in ("-o", word))]


def parse_s3_options(options: Mapping[str, str]) -> S3Options:
    """Check and read options of ``-o``; the file is not looked at. Raises InvalidArgument."""
    for key, value in options.items():
        if key not in _PATTERNS:
            raise InvalidArgument(
                f'invalid option: "{key}"', hint=f"use {', '.join(_PATTERNS)}", code="invalid-volume-option"
            )
        if not _PATTERNS[key].fullmatch(value) or ".." in value.split("/"):
            raise InvalidArgument(f'invalid value for option "{key}": {value!r}', code="invalid-volume-option")
    for key in _REQUIRED:
        if key not in options:
            raise InvalidArgument(f'missing required option: "{key}"', code="invalid-volume-option")
    return S3Options(
        bucket=options["bucket"],
        credentials=Path(options["credentials-file"]),
        endpoint=options.get("endpoint", "https://s3.amazonaws.com").rstrip("/"),
        prefix=options.get("prefix", "").strip("/"),
        region=options.get("region", ""),
        path_style=options.get("path-style", "true") == "true",
    )


def check_credentials(path: Path) -> None:
    """Refuse a file that others could read or have written, or that holds no keys; nothing of it is told.

    Raises NotFound, Forbidden, InvalidArgument naming the file.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise NotFound(
            f"credentials file {path}: {(error.strerror or '').lower()}", code="credentials-missing"
        ) from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidArgument(f"credentials file {path} is not a file", code="credentials-invalid")
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise Forbidden(
                f"credentials file {path} belongs to user {status.st_uid} and has mode"
                f" {stat.S_IMODE(status.st_mode):04o}: others could read or change it",
                hint=f"chown {os.geteuid()} {path} and chmod 600 {path}",
                code="credentials-exposed",
            )
        content = os.read(fd, _MAX_CREDENTIALS)
    finally:
        os.close(fd)
    if not any(_CREDENTIALS.fullmatch(line.strip()) for line in content.splitlines()):
        raise InvalidArgument(f"credentials file {path} has no line ACCESS_KEY:SECRET_KEY", code="credentials-invalid")
