"""What is looked at before a runtime is asked to start a process: crun finds some of it out too late, or never.

crun looks for the program as root, makes mount points before it mounts read-only, and does not say where a missing
source was to be mounted. The errors are those that Docker's clients know from runc and from Docker.
"""

from __future__ import annotations

import posixpath
from pathlib import Path

from tare.diagnosis.command import diagnose_command
from tare.diagnosis.tree import Outcome, Tree
from tare.diagnosis.view import View
from tare.errors import Diagnosis, ExecutableError, InternalError, InvalidArgument
from tare.model.container import Container
from tare.runtime.oci_runtime import CREATE_FAILED, EXEC_FAILED

_REFUSALS = ("not-executable", "directory-not-accessible", "noexec-mount")
NOT_FOUND, NOT_EXECUTABLE = 127, 126


def check_sources(container: Container) -> None:
    """Raises InvalidArgument for a bind mount whose source has gone since the container was made. Blocks."""
    for point in container.mounts:
        if point.type == "bind" and not Path(point.source).exists():
            raise InvalidArgument(
                f'invalid mount config for type "bind": bind source path does not exist: {point.source}'
            )


def check_mount_points(container: Container, root: Path, runtime: str) -> None:
    """Raises InternalError for a mount point that would have to be made in a read-only mount. Blocks.

    ``runtime`` is the runtime's name, for the message.
    """
    for point in container.mounts:
        above = [
            other
            for other in container.mounts
            if not other.rw and other.source and point.destination.startswith(other.destination.rstrip("/") + "/")
        ]
        if not above:
            continue
        nearest = max(above, key=lambda other: len(other.destination))
        inside = posixpath.relpath(point.destination, nearest.destination)
        if Tree(Path(nearest.source)).look(f"/{inside}").outcome is Outcome.MISSING:
            raise InternalError(
                f"{CREATE_FAILED}{runtime} create failed: unable to start container process: error during container "
                f'init: error mounting "{point.source}" to rootfs at "{point.destination}": '
                f"mkdir {root}{point.destination}: read-only file system"
            )


def check_command(view: View, command: str, *, runtime: str = "") -> None:
    """Raises ExecutableError for a command that the process's user may not execute. Blocks.

    ``runtime`` is the runtime's name for a container's first process, empty for an exec. Where a file has an access
    list (acl(5)), the runtime decides.
    """
    if view.tree.identity.bypass:
        return
    found = diagnose_command(view, command)
    if found is None or found.code not in _REFUSALS:
        return
    private = found.code == "directory-not-accessible"
    if not private and posixpath.basename(found.subject) != posixpath.basename(command):
        return  # an interpreter: that is for the kernel to refuse
    if view.tree.has_access_list(found.subject):
        return
    failed = f"{CREATE_FAILED}{runtime} create failed" if runtime else f"{EXEC_FAILED}exec failed"
    words, code = _refusal(view, command, found)
    error = ExecutableError(f"{failed}: unable to start container process: {words}", exit_code=code)
    error.diagnosis, error.code, error.hint = found, found.code, str(found)
    raise error


def _refusal(view: View, command: str, found: Diagnosis) -> tuple[str, int]:
    """runc's words for it and the exit status: it looks for a file with any execute bit, then asks the kernel."""
    if found.code == "directory-not-accessible":
        if "/" not in command:
            return f'exec: "{command}": executable file not found in $PATH', NOT_FOUND
        return f'exec: "{command}": stat {command}: permission denied', NOT_EXECUTABLE
    info = view.tree.look(found.subject).info
    if info is not None and not info.st_mode & 0o111:
        if "/" not in command:
            return f'exec: "{command}": executable file not found in $PATH', NOT_FOUND
        return f'exec: "{command}": permission denied', NOT_EXECUTABLE
    path = command if "/" in command else found.subject
    return f"exec {path}: permission denied", NOT_EXECUTABLE
