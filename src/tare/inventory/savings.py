"""What an image could do without: suggestions with the bytes that each would save.

A content counts for the first suggestion that fits, so that the bytes of all suggestions add up.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

import msgspec

from tare.inventory.leftovers import DEVELOPMENT_PACKAGES, LEFTOVERS
from tare.inventory.paths import printable
from tare.inventory.scan import Inventory
from tare.inventory.tree import Content, Fate

_EXAMPLES = 5  # paths that a suggestion names
_SHORT = 100  # characters of an instruction


class Suggestion(msgspec.Struct, kw_only=True):
    """Something to save: ``what`` is there and how to ``fix`` it, the largest ``paths`` as examples.

    ``code`` is for programs: ``deleted-later``, ``written-twice``, ``metadata-only``, ``packed-twice``,
    ``duplicates``, ``development-packages``, or one of :mod:`tare.inventory.leftovers`.
    """

    code: str
    bytes: int
    files: int
    what: str
    fix: str
    paths: list[str] = []


def suggest(inventory: Inventory, instructions: Sequence[str]) -> tuple[list[Suggestion], int]:
    """The suggestions, the heaviest first, and the bytes of all duplicates, whatever else they count for."""
    groups: dict[tuple[str, ...], list[Content]] = defaultdict(list)
    first: dict[bytes, Content] = {}
    duplicates = 0
    for content in inventory.contents():
        if not content.size:
            continue
        original = None
        if content.fate is Fate.VISIBLE:
            original = first.setdefault(content.sha256, content)
            if original is not content:
                duplicates += content.size
        key = _group(content, inventory, repeated=original is not None and original is not content)
        if key:
            groups[key].append(content)
    made = [_suggestion(key, contents, instructions) for key, contents in groups.items()]
    return sorted(made, key=lambda one: (-one.bytes, one.code, one.what)), duplicates


def _group(content: Content, inventory: Inventory, *, repeated: bool) -> tuple[str, ...]:
    if content.fate is not Fate.VISIBLE:
        if content.hidden_by == content.layer:
            return ("packed-twice", str(content.layer))
        code = "metadata-only" if content.same else "written-twice"
        if content.fate is Fate.DELETED:
            code = "deleted-later"
        return (code, str(content.layer), str(content.hidden_by))
    owner = inventory.owners.get(content)
    if owner is not None and owner.kind == "deb" and DEVELOPMENT_PACKAGES.fullmatch(owner.name):
        return ("development-packages",)
    for leftover in LEFTOVERS:
        if leftover.pattern.search(content.path):
            return (leftover.code,)
    return ("duplicates",) if repeated else ()


def _suggestion(key: tuple[str, ...], contents: list[Content], instructions: Sequence[str]) -> Suggestion:
    code = key[0]
    what, fix = _words(key, instructions)
    largest = sorted(contents, key=lambda content: (-content.size, content.path))[:_EXAMPLES]
    return Suggestion(
        code=code,
        bytes=sum(content.size for content in contents),
        files=len(contents),
        what=what,
        fix=fix,
        paths=[printable(f"/{content.path}") for content in largest],
    )


def _words(key: tuple[str, ...], instructions: Sequence[str]) -> tuple[str, str]:
    code, *layers = key
    named = [f"layer {number} ({_short(instructions[int(number)])})" for number in layers]
    match code:
        case "deleted-later":
            return (
                f"files of {named[0]} are deleted by {named[1]}: they are shipped all the same",
                "delete them in the instruction that writes them, or leave them in a build stage",
            )
        case "written-twice":
            return (
                f"files of {named[0]} are replaced by {named[1]}",
                "write them once: put the final content in first, or copy it from a build stage",
            )
        case "metadata-only":
            return (
                f"{named[1]} ships files of {named[0]} again, with equal content",
                "set owner, mode and time where the files are made: COPY --chown and --chmod, or in the same RUN",
            )
        case "packed-twice":
            return f"{named[0]} has files twice in its tar", "pack each path once"
        case "duplicates":
            return "files have the content of another file", "keep one, and link the others to it"
        case "development-packages":
            return (
                "packages that only building needs",
                "install them in a build stage, and copy what was built into the last one",
            )
        case _:
            leftover = next(one for one in LEFTOVERS if one.code == code)
            return leftover.what, leftover.fix


def _short(instruction: str) -> str:
    text = re.sub(r"\s+", " ", instruction)
    return text if len(text) <= _SHORT else text[: _SHORT - 1] + "…"
