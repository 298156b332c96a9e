"""What two results differ in, and what is deliberate about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from base_image import MTIME
from case import Case

_MISSING = "(missing)"
_EPOCH = -MTIME  # 1970-01-01, as the reader writes it


def differences(case: Case, docker: dict[str, Any], tare: dict[str, Any]) -> list[str]:
    """A line for each difference that the case does not expect, and for each expected one that is not there."""
    if case.fails:
        return list(_of_failures(case, docker, tare))
    if "result" in case.differs:
        return list(_of_results(case, docker, tare))
    if "error" in docker or "error" in tare:
        return [f"{name} failed: {result['error']}" for name, result in (("docker", docker), ("tare", tare))
                if "error" in result]  # fmt: skip
    # Directories whose content a build changes, and files that a Dockerfile holds: docs/dockerfile.md, "Times".
    times = {f"tree/{path}/mtime" for path, entry in docker["tree"].items() if entry["type"] == "directory"}
    found = {
        place: (one, two)
        for place, one, two in _pairs("", docker, tare)
        if one != two and not (one == "now" and (place in times or (two == _EPOCH and place.startswith("tree/"))))
    }
    lines: list[str] = []
    for place, (one, two) in found.items():
        if place not in case.differs:
            lines.append(f"{place}: docker {one!r}, tare {two!r}")
        elif two != case.differs[place]["tare"]:
            lines.append(f"{place}: tare {two!r}, the deliberate difference is {case.differs[place]['tare']!r}")
    lines += [f"{place}: a difference is listed, there is none" for place in case.differs if place not in found]
    return lines


def _of_results(case: Case, docker: dict[str, Any], tare: dict[str, Any]) -> Iterator[str]:
    """Where one of the two refuses on purpose what the other builds."""
    found = "fails" if "error" in tare else "builds"
    if ("error" in docker) == ("error" in tare):
        yield f"result: both {found.removesuffix('s')}, a difference is listed"
    elif found != case.differs["result"]["tare"]:
        yield f"result: tare {found}"


def _of_failures(case: Case, docker: dict[str, Any], tare: dict[str, Any]) -> Iterator[str]:
    for name, result in (("docker", docker), ("tare", tare)):
        if "error" not in result:
            yield f"{name} does not fail"
            continue
        for words in case.says:
            if words not in result["error"]:
                yield f"{name} does not say {words!r}: {result['error']}"


def _pairs(place: str, one: Any, two: Any) -> Iterator[tuple[str, Any, Any]]:
    """The leaves of two documents by their place."""
    if isinstance(one, dict) and isinstance(two, dict):
        for name in sorted({*one, *two}):
            yield from _pairs(f"{place}/{name}".strip("/"), one.get(name, _MISSING), two.get(name, _MISSING))
    elif isinstance(one, list) and isinstance(two, list) and place == "history":
        for number in range(max(len(one), len(two))):
            pair = [items[number] if number < len(items) else _MISSING for items in (one, two)]
            yield from _pairs(f"{place}/{number}", *pair)
    else:
        yield place, one, two
