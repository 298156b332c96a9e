"""Write ``recorded.json`` and ``shapes.json``: the answers of a real Docker.

It is the one of ``DOCKER_HOST``, by default that of ``scripts/reference-docker.sh``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2])]

from differential.containers.normal import run_all  # noqa: E402
from differential.containers.shape import inspected  # noqa: E402

RECORDED = Path(__file__).with_name("recorded.json")
SHAPES = Path(__file__).with_name("shapes.json")
REFERENCE = "unix:///run/tare-reference-docker/docker.sock"


def main() -> None:
    """Record."""
    environment = {**os.environ, "DOCKER_HOST": os.environ.get("DOCKER_HOST", REFERENCE), "DOCKER_BUILDKIT": "0"}
    answers = run_all(environment)
    RECORDED.write_text(json.dumps(answers, indent=1, ensure_ascii=False) + "\n")
    SHAPES.write_text(json.dumps(inspected(environment), indent=1) + "\n")


if __name__ == "__main__":
    main()
