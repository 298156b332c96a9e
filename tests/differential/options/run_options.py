#!/usr/bin/env python3
"""Runs every case of the table of options with the reference Docker and with Tare and says where they differ; as root.

make test-options                       compare
make test-options ARGS=--record         compare, and write what Docker shows into recorded.json
make test-options ARGS="memory cpu"     the cases whose names contain one of these
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

# ruff: noqa: E402
from base_image import BASE, CHANGES, base_rootfs
from option_cases import CASES, OptionCase, Result
from option_runner import Client, differences, run_case

from engine_process import CHECKOUT, EngineProcess, docker_program

RECORDED = Path(__file__).with_name("recorded.json")
_AT_ONCE = 2


def main() -> None:
    """Parse the options, run, compare, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="parts of the names of cases")
    parser.add_argument("--record", action="store_true", help="write recorded.json")
    parser.add_argument("--host", help="address of a reference Docker that runs")
    parser.add_argument("--only-record", action="store_true", help="leave Tare out")
    parser.add_argument("--recorded", action="store_true", help="compare with recorded.json")
    given = parser.parse_args()
    cases = [case for case in CASES if not given.words or any(word in case.name for word in given.words)]
    docker = _recorded() if given.recorded else _docker(given.host, cases)
    if given.record:
        known = _recorded() if given.words and RECORDED.exists() else {}
        known |= docker
        text = json.dumps({name: asdict(result) for name, result in sorted(known.items())}, indent=1)
        RECORDED.write_text(text + "\n")
    if not given.only_record:
        sys.exit(1 if compare(cases, docker) else 0)


def compare(cases: list[OptionCase], docker: dict[str, Result]) -> int:
    """Run the cases with Tare and say where they differ; returns how many do."""
    engine = EngineProcess.make()
    try:
        engine.docker("import", *_changes(), "-", BASE, stdin=base_rootfs())
        client = Client.make(engine.tare_command(), engine.environment(), engine.socket)
        found = _run(client, cases)
        runtime = engine.text("info", "-f", "{{.DefaultRuntime}}")
        wrong = 0
        for case in cases:
            if lines := differences(case, docker[case.name], found[case.name], runtime=runtime):
                wrong += 1
                print("\n".join(lines))
        print(f"{len(cases)} cases, {len(cases) - wrong} agree")
    finally:
        engine.stop()
    return wrong


def _docker(host: str | None, cases: list[OptionCase]) -> dict[str, Result]:
    address = host
    script = CHECKOUT / "scripts/reference-docker.sh"
    if address is None:
        started = subprocess.run([str(script), "start"], stdout=subprocess.PIPE, text=True, check=True)
        address = started.stdout.split()[-1]
    try:
        argv = [docker_program(), "-H", address]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent"}
        subprocess.run([*argv, "import", *_changes(), "-", BASE], input=base_rootfs(), check=True, stdout=-3)
        return _run(Client.make(argv, environment, Path(address.removeprefix("unix://"))), cases)
    finally:
        if host is None:
            subprocess.run([str(script), "stop"], check=True)


def _run(client: Client, cases: list[OptionCase]) -> dict[str, Result]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        results = pool.map(lambda case: run_case(client, case), cases)
        return {case.name: result for case, result in zip(cases, results, strict=True)}


def _recorded() -> dict[str, Result]:
    return {name: Result(**fields) for name, fields in json.loads(RECORDED.read_text()).items()}


def _changes() -> list[str]:
    return [word for change in CHANGES for word in ("-c", change)]


if __name__ == "__main__":
    main()
