"""Compiled seccomp filters, kept: libseccomp takes 12 ms to compile Docker's profile for three architectures.

crun leaves what it compiled in a container's state (``seccomp.bpf``) and takes such bytes back by an annotation
(crun(1), ``run.oci.seccomp_bpf_data``), where an exec finds them as well. A crun that does not know the annotation
compiles the profile, which stays in the configuration.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from tare.base.atomic import write_atomic
from tare.runtime.oci_runtime import OciRuntime

logger = logging.getLogger(__name__)

ANNOTATION = "run.oci.seccomp_bpf_data"
INSTRUCTION = 8  # bytes of one (struct sock_filter)
LONGEST = 4096 * INSTRUCTION  # the kernel takes no longer filter (BPF_MAXINSNS)


class CompiledFilters:
    """The filters of one runtime program, in files named by a digest of profile and program.

    Only crun has them; for other runtimes nothing happens. Reading and writing block: call from a thread.
    """

    def __init__(self, runtime: OciRuntime, directory: Path) -> None:
        self._runtime = runtime
        self._directory = directory
        self._known: dict[str, str] = {}

    def offer(self, spec: dict[str, Any]) -> None:
        """Put the compiled filter of a configuration's profile into it, when there is one."""
        key = self._key(spec)
        if key is None or ANNOTATION in spec.get("annotations", {}):
            return
        if key not in self._known and (data := self._load(key)):
            self._known[key] = base64.b64encode(data).decode()
        if key in self._known:
            spec["annotations"] = {**spec.get("annotations", {}), ANNOTATION: self._known[key]}

    def keep(self, spec: dict[str, Any], container_id: str) -> None:
        """Remember what the runtime compiled for a container that it has created from ``spec``."""
        key = self._key(spec)
        if key is None or ANNOTATION in spec.get("annotations", {}):
            return
        try:
            data = (self._runtime.root / container_id / "seccomp.bpf").read_bytes()
        except OSError:
            return
        if _is_filter(data):
            self._directory.mkdir(mode=0o700, exist_ok=True)
            write_atomic(self._directory / key, hashlib.sha256(data).digest() + data, durable=False)

    def _key(self, spec: dict[str, Any]) -> str | None:
        profile = spec.get("linux", {}).get("seccomp")
        if profile is None or self._runtime.name != "crun" or _notifies(profile):
            return None
        program = Path(self._runtime.path).stat()
        words = [self._runtime.path, program.st_size, program.st_mtime_ns, profile]
        return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()

    def _load(self, key: str) -> bytes:
        try:
            stored = (self._directory / key).read_bytes()
        except OSError:
            return b""
        digest, data = stored[:32], stored[32:]
        if hashlib.sha256(data).digest() != digest or not _is_filter(data):
            logger.warning("the compiled seccomp filter %s is damaged and is made anew", key[:12])
            return b""
        return data


def _is_filter(data: bytes) -> bool:
    return 0 < len(data) <= LONGEST and len(data) % INSTRUCTION == 0


def _notifies(profile: dict[str, Any]) -> bool:
    """Whether the profile asks a listener, which crun sets up while it compiles."""
    return "SCMP_ACT_NOTIFY" in json.dumps(profile)
