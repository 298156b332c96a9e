"""The ``s3`` volume driver: buckets of S3-compatible storage, mounted by s3fs, one process per volume in use.

s3fs goes to the background by itself: it is no child of the engine, outlives it, and is found again by its command
line.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tare.base.process import run
from tare.base.shielding import finish, to_end
from tare.errors import Forbidden, InternalError, NotFound, TareError, Unavailable
from tare.kernel.mounts import unmount
from tare.kernel.pidfd import PidFd
from tare.volumes.driver import Capabilities, Found, VolumeSpec
from tare.volumes.live_mounts import mounted_at
from tare.volumes.local import DATA, check_name
from tare.volumes.s3_options import S3Options, check_credentials, parse_s3_options

logger = logging.getLogger(__name__)

DRIVER = "s3"
CONNECT_SECONDS = 10.0
END_SECONDS = 60.0
"""How long s3fs may take to write what it has not written yet."""
_TROUBLE = re.compile(r"\[(?:CRT|ERR)\] [^ ]+ (.*)")


class S3Driver:
    """Buckets (:class:`tare.volumes.driver.VolumeDriver`). They are the user's: removing a volume deletes nothing."""

    name = DRIVER

    def __init__(self, root: Path, run_directory: Path, *, seconds: float = 30.0) -> None:
        self._root = root
        self._run = run_directory
        self._seconds = seconds
        self._watchers: dict[str, asyncio.Task[None]] = {}

    async def create(self, spec: VolumeSpec) -> None:
        """Check the options and make the mount point; the bucket is looked at when it is mounted."""
        check_name(spec.name)
        options = parse_s3_options(spec.options)
        await asyncio.to_thread(check_credentials, options.credentials)
        await asyncio.to_thread(self._make, spec.name)

    async def remove(self, spec: VolumeSpec) -> None:
        """Delete the mount point."""
        await asyncio.to_thread(self._remove, spec.name)

    async def find(self, spec: VolumeSpec) -> Found | None:
        """The mount point, and whether the bucket is there."""
        target = self._target(spec.name)
        state, process = await asyncio.to_thread(self._state, target)
        status: dict[str, object] = {"state": state}
        if process:
            status["pid"] = process
        if state == "dead":
            status["error"] = "s3fs has ended: stop the containers that have this volume and start them again"
        return Found(name=spec.name, mountpoint=os.fspath(target), status=status)

    def needs_mount(self, spec: VolumeSpec) -> bool:
        """Always."""
        return True

    async def adopt(self, spec: VolumeSpec) -> None:
        """Watch the process that an earlier engine has started."""
        state, process = await asyncio.to_thread(self._state, self._target(spec.name))
        if process:
            self._watch(spec.name, process)
        elif state == "dead":
            logger.warning("volume %s: s3fs has ended while no engine ran; its containers see errors", spec.name)

    async def mount(self, spec: VolumeSpec, reference: str) -> Path:
        """Mount the bucket unless it is; one whose process has died is mounted anew.

        Raises NotFound (bucket, credentials), Forbidden (keys refused), Unavailable (no answer).
        """
        target = self._target(spec.name)
        options = parse_s3_options(spec.options)
        state, process = await asyncio.to_thread(self._state, target)
        if state == "mounted":
            self._watch(spec.name, process)
            return target
        if state == "dead":
            await asyncio.to_thread(unmount, target)
        await asyncio.to_thread(check_credentials, options.credentials)
        await asyncio.to_thread(self._make, spec.name)
        log = self._run / f"{spec.name}.log"
        try:
            await self._start(options, target, log)
        except BaseException:
            await finish(to_end(self._end(spec.name)), what=f"s3fs of {spec.name}")
            raise
        _, process = await asyncio.to_thread(self._state, target)
        self._watch(spec.name, process)
        return target

    async def unmount(self, spec: VolumeSpec, reference: str, *, last: bool) -> None:
        """After the last user: unmount and wait until s3fs has written everything. Raises Unavailable."""
        if last:
            await self._end(spec.name)

    async def list(self) -> Sequence[Found]:
        """Nothing: rows tell which volumes there are."""
        return ()

    async def capabilities(self) -> Capabilities:
        """Global: every host sees the same bucket. Walking it would cost a request per object."""
        return Capabilities(scope="global", measurable=False)

    async def _start(self, options: S3Options, target: Path, log: Path) -> None:
        await self._reach(options)
        await asyncio.to_thread(_prepare_log, log)
        done = await run(
            options.command(target, log),
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"},
            timeout=self._seconds,
        )
        if done.returncode == 0:
            answer = asyncio.ensure_future(asyncio.to_thread(_answers, target))
            ready, _ = await asyncio.wait([answer], timeout=self._seconds)
            if not ready:
                await asyncio.to_thread(_kill, target)  # which ends the thread's wait, too
                await asyncio.wait([answer])
                raise Unavailable(
                    f"{options.what}: no answer within {self._seconds:g} seconds",
                    hint="check the endpoint; volumes.s3_mount_seconds in the configuration gives it longer",
                    code="s3-timeout",
                )
            if answer.result():
                return
        raise _refusal(options, done.error_text, await asyncio.to_thread(_read, log))

    async def _reach(self, options: S3Options) -> None:
        """Connect once: s3fs would try for long before it says that nobody is there. Raises Unavailable."""
        place = urlsplit(options.endpoint)
        port = place.port or (443 if place.scheme == "https" else 80)
        try:
            async with asyncio.timeout(min(self._seconds, CONNECT_SECONDS)):
                _, writer = await asyncio.open_connection(place.hostname, port)
        except (OSError, TimeoutError) as error:
            cause = (error.strerror or str(error)) if isinstance(error, OSError) else ""
            raise Unavailable(
                f"{options.what}: cannot connect: {cause or 'no answer'}",
                hint="check the endpoint",
                code="s3-unreachable",
            ) from error
        writer.close()

    async def _end(self, name: str) -> None:
        """Unmount and wait for the end of s3fs; one that does not end is killed."""
        if (watcher := self._watchers.pop(name, None)) is not None:
            watcher.cancel()
        await self._end_at(self._target(name))

    async def _end_at(self, target: Path) -> None:
        process = await asyncio.to_thread(_process_of, target)
        if await asyncio.to_thread(mounted_at, target) is not None:
            await asyncio.to_thread(unmount, target)
        if process:
            try:
                with PidFd(process) as handle:
                    try:
                        async with asyncio.timeout(END_SECONDS):
                            await handle.wait_ended()
                    except TimeoutError:
                        logger.warning("%s: s3fs does not end; what it has not written is lost", target)
                        handle.send_signal(signal.SIGKILL)
                        await handle.wait_ended()
            except ProcessLookupError:
                pass

    def _watch(self, name: str, process: int) -> None:
        if process and ((watcher := self._watchers.get(name)) is None or watcher.done()):
            self._watchers[name] = asyncio.create_task(self._wait_dead(name, process), name=f"s3fs {name}")

    async def _wait_dead(self, name: str, process: int) -> None:
        with contextlib.suppress(ProcessLookupError), PidFd(process) as handle:
            await handle.wait_ended()
        logger.error(
            "volume %s: s3fs has ended by itself (see %s); its containers see errors until they are started again",
            name,
            self._run / f"{name}.log",
        )

    def _state(self, target: Path) -> tuple[str, int]:
        """``unmounted``, ``mounted`` or ``dead``, and the process. The mount itself is not touched: it may hang."""
        if mounted_at(target) is None:
            return "unmounted", 0
        process = _process_of(target)
        return ("mounted", process) if process else ("dead", 0)

    def _target(self, name: str) -> Path:
        check_name(name)
        return self._root / name / DATA

    def _make(self, name: str) -> None:
        self._run.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._root.mkdir(mode=0o701, parents=True, exist_ok=True)
        (self._root / name).mkdir(mode=0o701, exist_ok=True)
        if mounted_at(self._target(name)) is None:
            self._target(name).mkdir(mode=0o755, exist_ok=True)

    def _remove(self, name: str) -> None:
        try:
            self._target(name).rmdir()  # never its content: it would be the bucket's
            (self._root / name).rmdir()
        except FileNotFoundError:
            pass
        except OSError as error:
            raise InternalError(f"{self._root / name}: cannot delete: {error.strerror}") from error
        (self._run / f"{name}.log").unlink(missing_ok=True)


def _refusal(options: S3Options, said: str, log: str) -> TareError:
    """The error for what s3fs has written."""
    lines = _TROUBLE.findall(log)
    text = (lines[-1] if lines else said or log.strip().rpartition("\n")[2]).partition("(host=")[0].strip()
    lower = text.lower()
    if "bucket or key not found" in lower or "nosuchbucket" in log.lower():
        return NotFound(f"{options.what}: no such bucket", hint="create it first", code="s3-no-bucket")
    if "invalid credentials" in lower or "accessdenied" in log.lower():
        return Forbidden(
            f"{options.what}: the keys in {options.credentials} are refused, or may not use this bucket",
            hint="check the keys and the bucket's policy",
            code="s3-forbidden",
        )
    if "unable to connect" in lower:
        return Unavailable(f"{options.what}: cannot connect", hint="check the endpoint", code="s3-unreachable")
    return Unavailable(f"{options.what}: s3fs: {text}", code="s3-failed")


def _prepare_log(log: Path) -> None:
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    log.write_text("")


def _read(log: Path) -> str:
    with contextlib.suppress(FileNotFoundError):
        return log.read_text(errors="replace")[-65536:]
    return ""


def _answers(target: Path) -> bool:
    """Wait until the file system answers; False when it goes away instead."""
    try:
        os.listdir(target)  # noqa: PTH208 - one request to the storage
    except OSError:
        return False
    return mounted_at(target) is not None and _process_of(target) != 0


def _process_of(target: Path) -> int:
    """The s3fs that serves ``target``; 0: none. Told by its command line, which is ours."""
    wanted = os.fsencode(target)
    for name in os.listdir("/proc"):  # noqa: PTH208 - thousands of short strings
        if not name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
            # The mount point is the third word, or the fourth: s3fs splits BUCKET:PREFIX where it stands.
            if words[0].rpartition(b"/")[2] == b"s3fs" and wanted in words[2:4]:
                return int(name)
    return 0


def _kill(target: Path) -> None:
    if process := _process_of(target):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    unmount(target)
