"""Mount the file system of a volume in a child process, which can be killed when storage does not answer.

mount(8) is used rather than mount(2): it knows the helpers of network file systems (mount.nfs, mount.cifs), sets up
loop devices, and a thread of the engine that waits in the kernel for a dead server could not be ended.
"""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path

from tare.base.process import Completed, run
from tare.base.shielding import finish
from tare.errors import InvalidArgument, NotFound, TareError, Unavailable
from tare.kernel.mounts import unmount
from tare.volumes.local_options import NETWORK_TYPES, LocalOptions

logger = logging.getLogger(__name__)

_PACKAGES = {"nfs": "nfs-common", "nfs4": "nfs-common", "cifs": "cifs-utils", "smb3": "cifs-utils"}
_SECRET = re.compile(r"\b(pass(?:word|wd)?2?)=([^,]*)")
_MS_BIND = 0x1000


async def mount_volume(options: LocalOptions, target: Path) -> None:
    """Mount at ``target``, within the time and the number of attempts that ``options`` say.

    A child that does not end is killed with what it has started, and what it may have mounted is undone. Raises
    NotFound (device or type), InvalidArgument (refused options), Unavailable (no answer) with Docker's words first.
    """
    for attempt in range(options.retries + 1):
        try:
            await _mount_once(options, target)
            return
        except TareError as error:
            await finish(asyncio.to_thread(unmount, target), what=f"mount at {target}")
            if attempt == options.retries or not isinstance(error, Unavailable):
                raise
            logger.warning("%s: %s; trying again", target, error)
        except BaseException:
            await finish(asyncio.to_thread(unmount, target), what=f"mount at {target}")
            raise


async def _mount_once(options: LocalOptions, target: Path) -> None:
    if not options.device:
        raise InvalidArgument("missing device in volume options", code="volume-mount-failed")
    words, environment = _without_password(options)
    argv = ["mount", "-n", "-t", options.type, *(["-o", ",".join(words)] if words else []), "--"]
    try:
        done = await run(
            [*argv, options.device, str(target)],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", **environment},
            timeout=options.seconds,
            group=True,
        )
    except Unavailable as error:
        if error.code == "program-missing":
            raise
        raise Unavailable(
            f"{_attempt(options, target)}: no answer within {options.seconds:g} seconds",
            hint=f"check that {options.device} can be reached; -o mount-timeout=… gives it longer",
            code="volume-mount-timeout",
        ) from error
    if done.returncode != 0:
        raise _refusal(options, target, done)


def _without_password(options: LocalOptions) -> tuple[tuple[str, ...], dict[str, str]]:
    """A password for CIFS goes to its helper by the environment (mount.cifs(8)): command lines are for all to see."""
    if options.type not in ("cifs", "smb3"):
        return options.mount_words, {}
    secrets = [word for word in options.mount_words if re.match(r"pass(word)?=", word)]
    kept = tuple(word for word in options.mount_words if word not in secrets)
    return kept, {"PASSWD": secrets[-1].partition("=")[2]} if secrets else {}


def _masked(text: str) -> str:
    return _SECRET.sub(r"\1=********", text)


def _attempt(options: LocalOptions, target: Path) -> str:
    """What Docker calls the mount."""
    text = f"failed to mount local volume: mount {options.device}:{target}"
    if options.is_bind:
        text += f", flags: {_MS_BIND:#x}"
    data = ",".join(word for word in options.mount_words if word not in ("bind", "rbind", "ro", "rw"))
    return text + (f", data: {_masked(data)}" if data else "")


def _refusal(options: LocalOptions, target: Path, done: Completed) -> TareError:
    said = " ".join(_masked(done.error_text).split())
    said = said.removeprefix("mount: ").removeprefix(f"{target}: ").partition(" dmesg(1)")[0].rstrip(".")
    what, lower = _attempt(options, target), said.lower()
    if (
        "unknown filesystem type" in lower
        or "no such device" in lower
        or (options.type == "none" and not options.is_bind)
    ):
        package = _PACKAGES.get(options.type)
        hint = f"this kernel has no file system {options.type!r}" + (
            f", or its package {package} is not installed" if package else "; see /proc/filesystems"
        )
        return NotFound(f"{what}: no such device", hint=hint, code="no-such-file-system")
    if "does not exist" in lower or "no such file" in lower:
        return NotFound(f"{what}: no such file or directory", hint=said, code="no-such-device")
    if "helper program" in lower and options.type in _PACKAGES:
        return NotFound(f"{what}: {said}", hint=f"install {_PACKAGES[options.type]}", code="no-such-file-system")
    if options.type in NETWORK_TYPES and "wrong fs type" not in lower and "invalid argument" not in lower:
        return Unavailable(f"{what}: {said}", code="volume-mount-failed")
    return InvalidArgument(f"{what}: {said}", code="volume-mount-failed")
