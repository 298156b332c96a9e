"""The processes of a container as ``ps`` shows them."""

from __future__ import annotations

import re
import shlex

from tare.base.process import run
from tare.errors import InvalidArgument
from tare.kernel.cgroups import CgroupLayout


def cgroup_pids(layout: CgroupLayout, path: str) -> list[int]:
    """Host process ids in a cgroup, ascending; empty when it is gone."""
    for directory in layout.directories(path):
        try:
            return sorted(int(line) for line in (directory / "cgroup.procs").read_text().split())
        except OSError:
            continue
    return []


async def list_processes(pids: list[int], ps_args: str) -> tuple[list[str], list[list[str]]]:
    """Titles and rows of ``ps <ps_args>`` for the given host process ids.

    Raises InvalidArgument when the columns asked for have no PID or ps does not know them.
    """
    try:
        arguments = shlex.split(ps_args or "-ef")
    except ValueError as error:
        raise InvalidArgument(f"ps arguments: {error}") from error
    result = await run(
        ["ps", *arguments, "-q", ",".join(map(str, pids))] if not _selects(arguments) else ["ps", *arguments]
    )
    if result.returncode != 0 and not result.stdout:
        lines = result.error_text.splitlines()
        raise InvalidArgument(f"ps: {lines[0] if lines else result.returncode}", code="ps-failed")
    lines = result.stdout.decode(errors="replace").splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise InvalidArgument("Couldn't find PID field in ps output")
    column = titles.index("PID")
    wanted = {str(pid) for pid in pids}
    rows = []
    for line in lines[1:]:
        fields = re.split(r"\s+", line.strip(), maxsplit=len(titles) - 1)
        if len(fields) > column and fields[column] in wanted:
            rows.append(fields)
    return titles, rows


def _selects(arguments: list[str]) -> bool:
    """Whether the arguments choose processes themselves; ps would add ours to theirs, so ours are filtered out."""
    return any(re.fullmatch(r"-?[a-zA-Z]*[eAaxdp][a-zA-Z]*", word) for word in arguments)
