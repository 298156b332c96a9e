"""``doctor``: does this host have what the engine needs?"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from tare.doctor.checks import Finding, examine

_DEFAULT_DATA_ROOT = "/var/lib/tare"
_MARKS = {"ok": ("ok", "green"), "missing": ("missing", "red"), "warning": ("note", "yellow")}


@click.command(short_help="Check whether this host has what the engine needs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--data-root", default=_DEFAULT_DATA_ROOT, help="Where the engine keeps its data.")
def doctor(as_json: bool, data_root: str) -> None:
    """Check this host; says for each missing part what it is for and how to get it. Needs no engine.

    The exit status is 1 when something is missing that the engine needs.
    """
    findings = examine(Path(data_root))
    missing = [one for one in findings if one.level == "missing"]
    if as_json:
        print(json.dumps({"ready": not missing, "findings": [asdict(one) for one in findings]}, indent=2))
    else:
        for one in findings:
            _show(one)
        summary = f"missing: {', '.join(one.name for one in missing)}" if missing else "this host is ready"
        click.secho(summary, fg="red" if missing else "green")
    sys.exit(1 if missing else 0)


def _show(one: Finding) -> None:
    word, colour = _MARKS[one.level]
    click.echo(f"{click.style(f'{word:<8}', fg=colour)} {one.name:<16} {one.detail}")
    if one.level != "ok":
        click.echo(f"{'':<25} for: {one.purpose}")
        click.echo(f"{'':<25} get it: {one.remedy}")
