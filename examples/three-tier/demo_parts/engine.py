"""An engine for the demo alone: start it, stop it, and look whether it left anything behind."""

from __future__ import annotations

import hashlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from demo_parts.command import CommandLine, DemoError

START_SECONDS = 30
STOP_SECONDS = 20
PAUSE = 0.05
PROGRAMS = frozenset({"tared", "tare-dns", "conmon", "runc", "crun"})


class Engine:
    """``tared`` in the foreground with data, run directory and socket of its own."""

    def __init__(self, data_root: Path, run_root: Path) -> None:
        self.data_root = data_root
        self.run_root = run_root
        self.socket = run_root / "tare.sock"
        self._pid_file = run_root / "tared.pid"
        self.log = data_root / "tared.log"
        self.command = CommandLine([str(_program("tare")), "--host", f"unix://{self.socket}"])
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def instance(self) -> str:
        """The part of kernel object names that tells this engine from others."""
        return hashlib.sha256(str(self.data_root).encode()).hexdigest()[:6]

    def start(self) -> None:
        """Start the daemon and wait until it answers; take over one that runs, as `--keep` leaves it."""
        self.data_root.mkdir(parents=True, exist_ok=True, mode=0o711)
        self.run_root.mkdir(parents=True, exist_ok=True, mode=0o711)
        if self.answers():
            return
        directories = {"--data-root": self.data_root, "--run-root": self.run_root, "--socket": self.socket}
        options = [word for name, path in directories.items() for word in (name, str(path))]
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                [str(_program("tared")), "--stop-containers", *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._process = process
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if process.poll() is not None:
                raise DemoError(f"tared ended with status {process.returncode}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise DemoError(f"tared did not answer within {START_SECONDS} s:\n{self.log_tail()}")
            time.sleep(PAUSE)

    def stop(self) -> None:
        """End the daemon and remove its run directory."""
        try:
            pidfd = os.pidfd_open(self._pid())
        except (FileNotFoundError, ProcessLookupError):
            pass
        else:
            try:
                self._end(pidfd)
            finally:
                os.close(pidfd)
        if not any(path.startswith(f"{self.run_root}/") for path in _mounts()):
            shutil.rmtree(self.run_root, ignore_errors=True)

    def _pid(self) -> int:
        """The daemon's process: ours, or the one that an earlier demo or somebody by hand started on these roots."""
        if self._process is not None:
            return self._process.pid
        pid = int(self._pid_file.read_text())
        if os.fsencode(self.data_root) not in Path(f"/proc/{pid}/cmdline").read_bytes():
            raise ProcessLookupError(pid)  # the number belongs to another process by now
        return pid

    def _end(self, pidfd: int) -> None:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        ended, _, _ = select.select([pidfd], [], [], STOP_SECONDS)
        if not ended:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            select.select([pidfd], [], [])
        if self._process is not None:
            self._process.wait()
        if not ended:
            raise DemoError(f"tared did not end within {STOP_SECONDS} s of SIGTERM; see {self.log}")

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of the daemon's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def leftovers(self) -> list[str]:
        """What still exists of this engine on the machine, by kind; its data root excepted."""
        roots = (str(self.data_root), str(self.run_root))
        found = [f"mount {path}" for path in _mounts() if path.startswith(tuple(root + "/" for root in roots))]
        found += [f"network device {path.name}" for path in Path("/sys/class/net").glob(f"tr{self.instance}-*")]
        found += [f"cgroup {path}" for path in _cgroups(f"tare-{self.instance}")]
        found += [f"process {process}" for process in _processes(roots)]
        tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False).stdout
        found += [line for line in tables.splitlines() if line.endswith(f" tare-{self.instance}")]
        return found

    def answers(self) -> bool:
        """Whether the daemon serves its socket."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(2)
                connection.connect(str(self.socket))
                connection.sendall(b"GET /_ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return connection.recv(64).startswith(b"HTTP/1.1 200")
        except OSError:
            return False


def _program(name: str) -> Path:
    program = Path(sys.executable).with_name(name)
    if not program.exists():
        raise DemoError(f"{program} is missing; run `make setup-run`")
    return program


def _mounts() -> list[str]:
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def _cgroups(name: str) -> list[str]:
    found = Path("/sys/fs/cgroup").glob(f"**/{name}")
    return [str(path) for path in found if path.is_dir()]


def _processes(roots: tuple[str, ...]) -> list[str]:
    """The engine's programs that name one of its directories; containers' processes show in their cgroups."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        # A script's own name is the second word, after its interpreter.
        names = {word.rpartition("/")[2] for word in words[:2]}
        if names & PROGRAMS and any(word.startswith(roots) for word in words):
            found.append(f"{path.parent.name} {' '.join(words[:2])}")
    return found
