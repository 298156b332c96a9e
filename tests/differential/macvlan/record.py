"""Write ``recorded.json``: the answers of a real Docker, that of ``DOCKER_HOST``, with this process's privileges.

``ENGINE_PID`` is a process in its network namespace: the commands need interfaces there.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2])]

from differential.macvlan.commands import COMMANDS, cable  # noqa: E402
from differential.networks.normal import run_all  # noqa: E402

RECORDED = Path(__file__).with_name("recorded.json")


def main() -> None:
    """Record."""
    if "DOCKER_HOST" not in os.environ or "ENGINE_PID" not in os.environ:
        sys.exit("set DOCKER_HOST to a Docker, and ENGINE_PID to the id of its process")
    with cable(["nsenter", f"--net=/proc/{os.environ['ENGINE_PID']}/ns/net"]):
        answers = run_all({**os.environ, "DOCKER_BUILDKIT": "0"}, COMMANDS)
    RECORDED.write_text(json.dumps(answers, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
