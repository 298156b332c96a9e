"""A real engine as a process, and the programs that talk to it."""

from __future__ import annotations

import http.client
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

START_SECONDS = 60
STOP_SECONDS = 60
COMMAND_SECONDS = 90
CHECKOUT = Path(__file__).parents[1]
BUSYBOX_PROGRAM = Path("/bin/busybox")

Completed = subprocess.CompletedProcess[bytes]


def docker_program() -> str:
    """The docker command; Docker's own, as the reference client."""
    found = shutil.which("docker") or shutil.which("docker", path=str(CHECKOUT / ".tools" / "bin"))
    assert found is not None, "no docker command: run `make setup`"
    return found


@dataclass
class EngineProcess:
    """One ``tared`` with a data root of its own, from ``start`` to ``stop``."""

    root: Path
    arguments: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    _reader: threading.Thread | None = None
    _lines: list[str] = field(default_factory=list)
    _said: threading.Condition = field(default_factory=threading.Condition)

    @classmethod
    def make(cls, *arguments: str) -> EngineProcess:
        """A started engine in a short path, as socket addresses are short."""
        engine = cls(Path(tempfile.mkdtemp(prefix="tare-t")), arguments)
        (engine.root / "config").mkdir()
        engine.start()
        return engine

    @property
    def data_root(self) -> Path:
        return self.root / "data"

    @property
    def run_root(self) -> Path:
        return self.root / "run"

    @property
    def socket(self) -> Path:
        return self.root / "s"

    @property
    def host(self) -> str:
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def peak_memory(self) -> int:
        """The highest resident size of the engine so far, in KiB."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

    @property
    def log(self) -> str:
        """What the engine has said so far."""
        return "".join(self._lines)

    def wait_for_log(self, text: str) -> None:
        """Return when the engine has said ``text``."""
        with self._said:
            assert self._said.wait_for(lambda: text in self.log, START_SECONDS), f"no {text!r} in:\n{self.log}"

    def command(self) -> list[str]:
        """How the engine is started."""
        return [
            sys.executable, "-m", "tare.daemon.main", "--data-root", str(self.data_root),
            "--run-root", str(self.run_root), "--socket", str(self.socket), "--stop-containers", *self.arguments,
        ]  # fmt: skip

    def start(self) -> None:
        """Start the process and wait until it says that it listens."""
        listening = threading.Event()
        self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self._reader = threading.Thread(target=self._read, args=(self.process.stderr, listening), daemon=True)
        self._reader.start()
        assert listening.wait(START_SECONDS), f"the engine does not listen:\n{self.log}"
        assert self.socket.is_socket(), f"the engine has not started:\n{self.log}"

    def _read(self, stream: io.BufferedReader, listening: threading.Event) -> None:
        with stream:
            for line in stream:
                with self._said:
                    self._lines.append(line.decode(errors="replace"))
                    self._said.notify_all()
                if b"listening on" in line:
                    listening.set()
        listening.set()

    def kill(self) -> None:
        """End the engine as a crash does; containers go on."""
        assert self.process is not None and self._reader is not None
        self.process.kill()
        self.process.wait()
        self._reader.join()

    def restart(self, number: int = signal.SIGKILL) -> None:
        """End the engine by a signal and start it again on the same data."""
        assert self.process is not None and self._reader is not None
        self.process.send_signal(number)
        self.process.wait(STOP_SECONDS)
        self._reader.join()
        self.start()

    def stop(self) -> None:
        """End the engine in order and remove its data; its exit status must be 0, its log without a trace."""
        self.end()
        shutil.rmtree(self.root)
        assert self.process is not None
        assert self.process.returncode == 0, self.log
        assert "Traceback" not in self.log, self.log

    def end(self) -> None:
        """End the engine in order; its data stays. An engine that has ended is left as it is."""
        assert self.process is not None and self._reader is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        self._reader.join()

    def environment(self) -> dict[str, str]:
        """For client programs: this engine, no settings of the user's, the classic builder."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "TARE_"))}
        own = {"DOCKER_HOST": self.host, "DOCKER_CONFIG": str(self.root / "config"), "DOCKER_BUILDKIT": "0"}
        return kept | own

    def docker(
        self, *arguments: str, check: bool = True, stdin: bytes | None = None, timeout: float = COMMAND_SECONDS
    ) -> Completed:
        """Run the docker command to its end."""
        done = subprocess.run(
            [docker_program(), *arguments],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            env=self.environment(),
            timeout=timeout,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"docker {' '.join(arguments)}: {done.returncode}\n{done.stdout!r}\n{done.stderr!r}")
        return done

    def tare_command(self, *arguments: str) -> list[str]:
        """Tare's own command line, to talk to this engine."""
        return [sys.executable, "-m", "tare.cli.main", "--host", self.host, *arguments]

    def tare(
        self, *arguments: str, check: bool = True, stdin: bytes | None = None, environ: Mapping[str, str] | None = None
    ) -> Completed:
        """Run Tare's own command line to its end."""
        done = subprocess.run(
            self.tare_command(*arguments),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            env=self.environment() | dict(environ or {}),
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"tare {' '.join(arguments)}: {done.returncode}\n{done.stdout!r}\n{done.stderr!r}")
        return done

    def text(self, *arguments: str) -> str:
        """Standard output of a docker command that must succeed, stripped."""
        return self.docker(*arguments).stdout.decode().strip()

    def remove_containers(self) -> None:
        """Remove every container with its anonymous volumes."""
        if names := self.text("ps", "-aq").split():
            self.docker("rm", "-f", "-v", *names)

    def start_docker(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A docker command that goes on, all three streams being pipes."""
        return subprocess.Popen(
            [docker_program(), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment(),
        )

    def import_busybox(self, rootfs: bytes) -> str:
        """Make the image ``busybox``."""
        path = "ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin"
        self.docker("import", "-c", 'CMD ["sh"]', "-c", path, "-", "busybox:latest", stdin=rootfs)
        return "busybox"


class UnixConnection(http.client.HTTPConnection):
    """HTTP on a unix socket."""

    def __init__(self, path: Path, *, seconds: float = 60) -> None:
        super().__init__("engine", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def busybox_rootfs() -> bytes:
    """A root file system of Debian's static busybox, as a tar."""
    assert BUSYBOX_PROGRAM.exists(), "no /bin/busybox: run `make setup` (package busybox-static)"
    applets = subprocess.run([str(BUSYBOX_PROGRAM), "--list-full"], capture_output=True, text=True, check=True).stdout
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, mode in (("etc", 0o755), ("root", 0o700), ("tmp", 0o1777), ("var", 0o755), ("home", 0o755)):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, mode
            archive.addfile(directory)
        archive.add(BUSYBOX_PROGRAM.resolve(), "bin/busybox")
        for applet in applets.split():
            if applet not in ("bin/busybox",):
                link = tarfile.TarInfo(applet)
                link.type, link.linkname = tarfile.SYMTYPE, "/bin/busybox"
                archive.addfile(link)
        add_file(archive, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nguest:x:405:100:guest:/home:/bin/sh\n")
        add_file(archive, "etc/group", b"root:x:0:\nusers:x:100:guest\nwheel:x:10:guest\n")
    return buffer.getvalue()


def add_file(archive: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    """Put bytes into an archive."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))


def program_rootfs(program: Path, name: str) -> bytes:
    """A root file system with nothing but one program."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        add_file(archive, name, program.read_bytes(), 0o755)
    return buffer.getvalue()
