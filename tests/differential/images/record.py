"""Write ``recorded.json``: the answers of a real Docker without anything of anybody else, as these commands prune.

It is the one of ``DOCKER_HOST``, in the host's network namespace, as it fetches from a server of this program.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2])]

from differential.images.normal import run_all  # noqa: E402

RECORDED = Path(__file__).with_name("recorded.json")


def main() -> None:
    """Record."""
    if "DOCKER_HOST" not in os.environ:
        sys.exit("set DOCKER_HOST to a Docker of your own: the commands remove everything that is not in use")
    with tempfile.TemporaryDirectory() as configuration:
        answers = run_all({**os.environ, "DOCKER_BUILDKIT": "0", "DOCKER_CONFIG": configuration})
    RECORDED.write_text(json.dumps(answers, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
