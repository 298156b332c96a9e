"""Write ``recorded.json``: the answers of a real Docker (``DOCKER_HOST``, default: scripts/reference-docker.sh)."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2])]

from differential.containers.normal import run_all  # noqa: E402

RECORDED = Path(__file__).with_name("recorded.json")
REFERENCE = "unix:///run/tare-reference-docker/docker.sock"


def main() -> None:
    """Record."""
    environment = {**os.environ, "DOCKER_HOST": os.environ.get("DOCKER_HOST", REFERENCE), "DOCKER_BUILDKIT": "0"}
    answers = run_all(environment)
    RECORDED.write_text(json.dumps(answers, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
