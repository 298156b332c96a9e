"""Write ``docker-28.5.2.json``: the outcome of every attempt with a real Docker in the lab.

As root: ``scripts/reference-docker.sh fetch``, then ``.venv/bin/python tests/lab/record.py``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

from lab import engines, topology  # noqa: E402
from lab.attempts import attempts  # noqa: E402
from lab.lab import furnished  # noqa: E402
from lab.measuring import measure  # noqa: E402
from lab.run import RECORD  # noqa: E402


def main() -> None:
    """Record."""
    with topology.built() as wires, engines.docker(wires.host) as address, furnished(wires, address) as lab:
        outcomes = measure(lab, attempts())
    RECORD.write_text(json.dumps(outcomes, indent=1) + "\n")
    print(f"{len(outcomes)} outcomes in {RECORD}")


if __name__ == "__main__":
    main()
