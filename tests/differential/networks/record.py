"""Write ``recorded.json``: the answers of a real Docker without networks of anybody else, as these commands prune.

It is the one of ``DOCKER_HOST``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2])]

from differential.networks.normal import run_all  # noqa: E402

RECORDED = Path(__file__).with_name("recorded.json")


def main() -> None:
    """Record."""
    if "DOCKER_HOST" not in os.environ:
        sys.exit("set DOCKER_HOST to a Docker of your own: the commands remove every network that is not in use")
    answers = run_all({**os.environ, "DOCKER_BUILDKIT": "0"})
    RECORDED.write_text(json.dumps(answers, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
