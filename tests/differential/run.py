#!/usr/bin/env python3
"""Builds every case with the reference Docker and with Tare and says where they differ; as root.

make test-differential                    compare
make test-differential ARGS=--record      compare, and write what Docker made into recorded.json
make test-differential ARGS="copy run"    the cases whose names contain one of these
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from builders import Builder, docker_builder, tare_builder
from case import Case, load_cases
from comparison import differences
from origin import serving

from engine_process import CHECKOUT, EngineProcess

_REFERENCE = CHECKOUT / "scripts" / "reference-docker.sh"
_HOST_ADDRESS = "10.213.0.1"  # as the reference Docker, in its network namespace, sees it
_AT_ONCE = 4


def main() -> None:
    """Parse the options, build, compare, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="parts of the names of cases")
    parser.add_argument("--record", action="store_true", help="write recorded.json")
    parser.add_argument("--keep", action="store_true", help="leave the reference Docker running")
    given = parser.parse_args()
    cases = [case for case in load_cases() if not given.words or any(word in case.name for word in given.words)]
    host = subprocess.run([str(_REFERENCE), "start"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1]
    try:
        docker = run_all(docker_builder(host), cases, _HOST_ADDRESS)
    finally:
        if not given.keep:
            subprocess.run([str(_REFERENCE), "stop"], check=True)
    engine = EngineProcess.make()
    try:
        with tare_builder(engine.host, _AT_ONCE) as builder:
            tare = run_all(builder, cases, "127.0.0.1")
    finally:
        engine.stop()
    wrong = 0
    sys.stdout.reconfigure(errors="backslashreplace")
    for case in cases:
        if lines := differences(case, docker[case.name], tare[case.name]):
            wrong += 1
            print(f"{case.name}\n" + "".join(f"    {line}\n" for line in lines))
        if given.record:
            case.recorded.write_text(json.dumps(docker[case.name], indent=1, sort_keys=True) + "\n")
    print(f"{len(cases)} cases, {len(cases) - wrong} agree")
    sys.exit(1 if wrong else 0)


def run_all(builder: Builder, cases: list[Case], address: str) -> dict[str, dict[str, Any]]:
    """The result of each case by its name; ``address`` is this host's as the builder sees it."""
    builder.load_base()
    with serving(address) as origin, ThreadPoolExecutor(_AT_ONCE) as pool:
        results = pool.map(lambda case: builder.run(case, origin), cases)
        return {case.name: result for case, result in zip(cases, results, strict=True)}


if __name__ == "__main__":
    main()
