"""A credential helper that is a real program: it keeps credentials in a file beside it and writes down its calls."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

_PROGRAM = """#!{python} -I
import json, pathlib, sys
place = pathlib.Path(__file__).with_name("kept.json")
kept = json.loads(place.read_text()) if place.exists() else {{}}
action, data = sys.argv[1], sys.stdin.read()
with place.with_name("calls").open("a") as calls:
    calls.write(json.dumps([sys.argv[1:], data]) + "\\n")
if action == "store":
    entry = json.loads(data)
    kept[entry["ServerURL"]] = entry
elif action == "list":
    print(json.dumps({{key: entry["Username"] for key, entry in kept.items()}}))
elif data.strip() not in kept:
    print("credentials not found in native keychain")
    sys.exit(1)
elif action == "get":
    print(json.dumps(kept[data.strip()]))
else:
    del kept[data.strip()]
place.write_text(json.dumps(kept))
"""


class FakeHelper:
    """``docker-credential-<name>`` in a directory that has to be in ``PATH``."""

    def __init__(self, directory: Path, name: str = "fake") -> None:
        self.directory = directory
        self.program = directory / f"docker-credential-{name}"
        directory.mkdir(exist_ok=True)
        self.program.write_text(_PROGRAM.format(python=sys.executable))
        self.program.chmod(0o755)

    @property
    def kept(self) -> dict[str, Any]:
        """What it keeps, by server."""
        place = self.directory / "kept.json"
        found: dict[str, Any] = json.loads(place.read_text()) if place.exists() else {}
        return found

    @property
    def calls(self) -> list[tuple[list[str], str]]:
        """Arguments and standard input of each call."""
        place = self.directory / "calls"
        return [tuple(json.loads(line)) for line in place.read_text().splitlines()] if place.exists() else []
