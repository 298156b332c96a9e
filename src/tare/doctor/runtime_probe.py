"""Whether an OCI runtime really works on this host: it runs a container that ends at once."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from tare.doctor.programs import run_quietly

PROBE_SECONDS = 20.0

_NAMESPACES = ("pid", "network", "ipc", "uts", "mount")


def why_not(program: str) -> str:
    """Run a container of the host's own files, read-only; returns why that fails, empty when it works."""
    if os.geteuid() != 0:
        return "" if run_quietly([program, "--version"], PROBE_SECONDS)[0] == 0 else "--version fails"
    with tempfile.TemporaryDirectory(prefix="tare-doctor-") as directory:
        bundle = Path(directory)
        (bundle / "rootfs").mkdir()
        name = bundle.name
        (bundle / "config.json").write_text(json.dumps(_spec(name)))
        state = ["--root", str(bundle / "state")]
        status, text = run_quietly([program, *state, "run", "--bundle", str(bundle), name], PROBE_SECONDS)
        run_quietly([program, *state, "delete", "--force", name], PROBE_SECONDS)
    return "" if status == 0 else text.splitlines()[-1] if text else f"exit status {status}"


def _spec(name: str) -> dict[str, Any]:
    """A container that runs ``true`` on the host's programs and libraries."""
    binds = [path for path in ("/usr", "/bin", "/lib", "/lib64") if Path(path).exists()]
    options = ["rbind", "ro"]
    mounts = [{"destination": path, "type": "bind", "source": path, "options": options} for path in binds]
    return {
        "ociVersion": "1.0.2",
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["/bin/true"], "cwd": "/", "env": ["PATH=/bin"]},
        "root": {"path": "rootfs", "readonly": False},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}, *mounts],
        "linux": {"namespaces": [{"type": kind} for kind in _NAMESPACES], "cgroupsPath": f"/{name}"},
    }
