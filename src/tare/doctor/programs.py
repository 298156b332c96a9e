"""Programs run for their answer only."""

from __future__ import annotations

import subprocess


def run_quietly(argv: list[str], seconds: float) -> tuple[int, str]:
    """Exit status and error output of a program; 124 when it took longer than ``seconds``."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return 124, f"no end within {seconds:.0f} s"
    except OSError as error:
        return 126, str(error)
    return done.returncode, (done.stderr or done.stdout).strip()
