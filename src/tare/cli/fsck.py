"""``fsck``: is the store what the database says?"""

from __future__ import annotations

import re
import sys
from typing import Any

import click

from tare.cli.session import Session, pass_session, tell
from tare.cli.template import to_json
from tare.cli.units import human_size
from tare.errors import TareError

_COULD_NOT_CHECK = 2
_COLOURS = {"found": "yellow", "repaired": "green", "left": "red"}

_DIGEST = re.compile(r"sha256:([0-9a-f]{12})[0-9a-f]{52}")
_SHORT = r"\1"

Document = dict[str, Any]


@click.command(short_help="Check that the store is what the database says, and heal it.")
@click.option("--repair", is_flag=True, help="Heal what can be healed.")
@click.option(
    "--deep", is_flag=True, help="Compare the content of unpacked files, too, not only names, sizes and times."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Show problems only.")
@pass_session
def fsck(session: Session, repair: bool, deep: bool, as_json: bool, quiet: bool) -> None:
    """Check every digest, directory and reference in the engine's store; containers and builds go on meanwhile.

    The exit status is 0 when nothing is wrong (any more), 1 when problems are left, 2 when the store could not be
    checked. What cannot be healed is named with those that need it and with what to do about it.
    """
    try:
        problems, result = session.run(
            lambda client: _run(client, repair=repair, deep=deep, show=not as_json, quiet=quiet)
        )
    except TareError as error:
        tell(error)
        sys.exit(_COULD_NOT_CHECK)
    if as_json:
        print(to_json({**result, "problems": problems}))
    elif not quiet:
        print(summary(result))
    sys.exit(0 if result["clean"] else 1)


async def _run(client: Any, *, repair: bool, deep: bool, show: bool, quiet: bool) -> tuple[list[Document], Document]:
    problems: list[Document] = []
    line = _ProgressLine(shown=show and not quiet and sys.stderr.isatty())
    try:
        async for event in client.system.fsck(repair=repair, deep=deep):
            name = event.pop("event")
            if name == "result":
                return problems, event
            if name == "progress":
                line.show(event)
                continue
            line.clear()
            problems.append(event)
            if show:
                click.echo(describe(event))
    finally:
        line.clear()
    raise AssertionError("the client raises when there is no result")


def describe(problem: Document) -> str:
    """A problem in a few lines; digests as they are typed, those of commands whole."""
    state = problem["state"]
    mark = click.style(f"{state:<8}", fg=_COLOURS.get(state))
    what = _DIGEST.sub(_SHORT, f"{problem['kind']} {problem['object']}: {problem['cause']}")
    lines = [f"{mark} {what} [{problem['code']}]"]
    details = {
        "used by": ", ".join(problem["used_by"]),
        {"found": "--repair", "repaired": "repair"}.get(state, ""): problem["repair"],
        "fix" if state == "left" else "else": problem["fix"],
    }
    lines += [f"{'':<8} {name + ':':<10} {text}" for name, text in details.items() if name and text]
    return "\n".join(lines)


def summary(result: Document) -> str:
    """What was looked at and what it came to, in one line."""
    looked = ", ".join(f"{count} {name}" for name, count in result["checked"].items() if name != "databases")
    counts = [f"{result[name]} {name}" for name in ("found", "repaired", "left") if result[name]]
    said = ", ".join(counts) if counts else "nothing is wrong"
    hint = "; `tare fsck --repair` heals what can be healed" if result["found"] else ""
    return f"{looked}; {human_size(result['bytes'])} read in {result['seconds']:.1f} s: {said}{hint}"


class _ProgressLine:
    """One line on standard error that is written again and again; nothing where that is no terminal."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._dirty = False

    def show(self, progress: Document) -> None:
        if not self._shown:
            return
        total = progress["total"]
        share = f"{min(100, 100 * progress['done'] // total):3}% of {human_size(total)}  " if total else ""
        sys.stderr.write(f"\r\x1b[2K{share}{_DIGEST.sub(_SHORT, progress['what'])}")
        sys.stderr.flush()
        self._dirty = True

    def clear(self) -> None:
        if self._dirty:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
            self._dirty = False
