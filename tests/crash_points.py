"""An engine that is told where to kill itself, and started again on what that leaves."""

from __future__ import annotations

import hashlib
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from engine_process import EngineProcess

SCRIPT = Path(__file__).with_name("crashing_engine.py")


@dataclass
class CrashingEngine(EngineProcess):
    """An engine that kills itself at the step that :meth:`crash_at` names; see ``crashing_engine.py``."""

    crashed: bool = False

    @property
    def plan(self) -> Path:
        return self.root / "plan"

    @property
    def starts(self) -> Path:
        return self.root / "starts"

    def command(self) -> list[str]:
        plain = super().command()
        return [sys.executable, str(SCRIPT), str(self.plan), *plain[plain.index("--data-root") :]]

    def crash_at(self, step: int | str) -> None:
        """Arm: the number of a step, or the name of one and its number among those of the name."""
        self.plan.write_text(str(step))

    def has_crashed(self) -> bool:
        """Disarm, and tell whether the engine has killed itself."""
        assert self.process is not None
        self.plan.unlink()
        try:
            self.process.wait(0.2)
        except subprocess.TimeoutExpired:
            self.crashed = False
        else:
            self.crashed = self.process.returncode == -signal.SIGKILL
        return self.crashed

    def begin_again(self) -> None:
        """Start on what the crash has left."""
        assert self._reader is not None
        self._reader.join()
        self.start()

    def run(self, name: str, *options: str, check: bool = True) -> None:
        """A container that notes each start of its process."""
        mount = ("-v", f"{self.starts}:/starts", "--stop-timeout", "0")
        words = ("busybox", "sh", "-c", f"echo x >> /starts/{name}; exec sleep 1000")
        self.docker("run", "-d", "--name", name, *mount, *options, *words, check=check)

    def started(self, name: str) -> int:
        """How often the process of :meth:`run` began."""
        path = self.starts / name
        return len(path.read_text().split()) if path.exists() else 0

    def await_event(self, name: str, action: str, since: str = "1h") -> None:
        """Return when the event has come in this engine's life since ``since``, or when that life ends."""
        command = ("events", "--since", since, "--filter", f"container={name}", "--filter", f"event={action}")
        events = self.start_docker(*command)
        try:
            assert events.stdout is not None
            assert select.select([events.stdout], [], [], 30)[0], f"no event {action} of {name}:\n{self.log}"
        finally:
            events.kill()
            events.communicate()

    @property
    def instance(self) -> str:
        return hashlib.sha256(str(self.data_root).encode()).hexdigest()[:6]

    def state(self, name: str, template: str = "{{.State.Status}}") -> str:
        return self.text("inspect", "-f", template, name)
