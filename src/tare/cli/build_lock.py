"""``build --update-lock``: writes the lock files that a build has made, and says what is different."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tare.base.atomic import write_atomic
from tare.cli.build_context import Context
from tare.errors import DataCorrupt, InvalidArgument


def check_update(context: Context, document: dict[str, Any]) -> None:
    """Raises InvalidArgument where there is no place for a lock file, or nothing is built."""
    if not context.context:
        raise InvalidArgument("--update-lock writes beside the file that is built", hint="give a directory as PATH")
    for name, option in (("plan_only", "--plan"), ("check", "--check")):
        if document[name]:
            raise InvalidArgument(f"--update-lock needs a build, but {option} makes none", hint="leave one of them out")


def write_locks(locks: Sequence[dict[str, Any]], context: Context, contexts: Iterable[str], *, quiet: bool) -> None:
    """Write each lock file where it belongs; ``contexts`` are the named contexts as given.

    Raises DataCorrupt for a file that the engine has no business with.
    """
    places = dict(text.partition("=")[::2] for text in contexts)
    for lock in locks:
        path = _place(lock, context, places)
        text = str(lock["text"]).encode()
        same = path.is_file() and path.read_bytes() == text
        if not same:
            write_atomic(path, text)
        if not quiet:
            print("\n".join(describe(path.name, lock["changes"], same=same)), file=sys.stderr)


def _place(lock: dict[str, Any], context: Context, places: dict[str, str]) -> Path:
    """Where the lock file is written: only beside the file that is built, or in a context that was given."""
    if lock["beside"] and context.lock is not None:
        return context.lock
    name = str(lock["file"])
    root = Path(places[lock["context"]]).absolute().parent if lock["context"] in places else Path(context.context)
    path = root / name
    outside = not path.resolve().is_relative_to(root.resolve())
    if outside or path.suffix != ".lock" or not any(path.with_suffix(end).is_file() for end in (".yaml", ".yml")):
        raise DataCorrupt(f"the engine names a lock file {name!r}, which belongs to no file of the build")
    return path


def describe(name: str, changes: Sequence[dict[str, Any]], *, same: bool) -> Iterator[str]:
    """Lines that say what is different: ``+ name version``, ``- name version``, ``name old → new``.

    An architecture that was not locked before is one line.
    """
    if same:
        yield f"{name} is up to date"
        return
    yield f"{name} written" + ("" if changes else ", with the same packages")
    for architecture in dict.fromkeys(change["architecture"] for change in changes):
        own = [change for change in changes if change["architecture"] == architecture]
        if all(not change["before"] for change in own) and len(own) > 1:
            yield f"  {architecture}: {len(own)} packages"
        else:
            yield from (f"  {architecture}: {_change(change)}" for change in own)


def _change(change: dict[str, Any]) -> str:
    before, after = change["before"], change["after"]
    if not before:
        return f"+ {change['name']} {after}"
    if not after:
        return f"- {change['name']} {before}"
    rebuilt = " (built anew)" if before == after else ""
    return f"{change['name']} {before} → {after}{rebuilt}"
