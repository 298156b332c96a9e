"""Write ``docker-28.5.2.json``: the outcome of every attempt with a real Docker in the lab.

As root: ``make lab ARGS=--record``; ``scripts/reference-docker.sh fetch`` gets Docker.
"""

from __future__ import annotations

import json

from lab import engines, topology
from lab.attempts import attempts
from lab.lab import changed, furnished
from lab.measuring import measure
from lab.run import RECORD


def record() -> None:
    """Run Docker in the lab and write its outcomes."""
    with topology.built() as wires, engines.docker(wires.host) as address, furnished(wires, address) as lab:
        first, later = ([attempt for attempt in attempts() if attempt.later is when] for when in (False, True))
        outcomes = measure(lab, first)
        with changed(wires, address) as afterwards:
            outcomes |= measure(afterwards, later)
    RECORD.write_text(json.dumps(outcomes, indent=1) + "\n")
    print(f"{len(outcomes)} outcomes in {RECORD}")
