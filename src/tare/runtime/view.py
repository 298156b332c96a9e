"""A host as crun can bear it: on hybrid cgroups it runs where only the v1 hierarchies are to be seen.

crun refuses to create containers where v2 has controllers beside v1 (``libcrun_cgroup_enter``). Their limits live in v1
there, so it is started in a mount namespace of its own that hides the v2 tree. The namespace ends with crun; the
container's own is made from it and leaves these mounts behind.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tare.kernel.cgroups import CgroupLayout

# Mounts elsewhere keep their propagation: a container may share a bind mount with the host. crun makes a directory in
# the v2 tree nevertheless, so there must be one.
_SCRIPT = 'mount --make-rprivate "$1" && mount -t tmpfs -o size=4k none "$2" && shift 2 && exec "$@"'


def without_v2(layout: CgroupLayout) -> tuple[str, ...]:
    """The command that starts a program without sight of the v2 tree; empty where there are not both."""
    unshare, shell = shutil.which("unshare"), shutil.which("sh")
    if layout.kind != "hybrid" or layout.unified is None or unshare is None or shell is None:
        return ()
    above = _mount_above(layout.unified)
    arguments = ("--mount", "--propagation", "unchanged", "--", shell, "-c", _SCRIPT, "sh", str(above))
    return (unshare, *arguments, str(layout.unified))


def _mount_above(path: Path) -> Path:
    """The mount point that ``path``, itself one, is mounted on."""
    parent = path.parent
    while not os.path.ismount(parent):
        parent = parent.parent
    return parent
