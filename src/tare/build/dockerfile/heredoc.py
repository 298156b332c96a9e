"""Here-documents: which of them a line announces (Dockerfile reference, "Here-Documents")."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tare.build.dockerfile.expansion import ExpansionRules, expand_result
from tare.errors import InvalidArgument

_MARKER = re.compile(r"(\d{0,9})<<(-?)([^<]*)", re.DOTALL)
_RAW = ExpansionRules(keep_quotes=True, keep_escapes=True, keep_undefined=True)
_QUOTED = ExpansionRules(keep_quotes=True, keep_undefined=True)
_PLAIN = ExpansionRules(keep_undefined=True)


@dataclass(frozen=True, slots=True)
class Marker:
    """``[descriptor]<<[-]name``; a quoted name means that variables in the text are not expanded."""

    name: str
    expand: bool
    chomp: bool
    descriptor: int


def markers(line: str) -> list[Marker]:
    """The heredocs that a logical line announces, in order; none where the line's quotes do not pair."""
    if "<<" not in line:
        return []
    try:
        words = expand_result(line, {}, _RAW).words
    except InvalidArgument:
        return []
    return [found for word in words if (found := parse_marker(word)) is not None]


def parse_marker(word: str) -> Marker | None:
    """The heredoc that a word announces, None where it is another word."""
    match = _MARKER.fullmatch(word)
    if match is None or not match[3]:
        return None
    try:
        names = expand_result(match[3], {}, _PLAIN).words
        quoted = expand_result(match[3], {}, _QUOTED).words
    except InvalidArgument:
        return None
    if len(names) != 1 or len(quoted) != 1:
        return None
    return Marker(names[0], _quotes(names[0]) == _quotes(quoted[0]), match[2] == "-", int(match[1] or 0))


def chomp(content: str) -> str:
    """The text without the tabs at the start of its lines, as ``<<-`` asks for."""
    return re.sub(r"^\t+", "", content, flags=re.MULTILINE)


def _quotes(text: str) -> int:
    return text.count("'") + text.count('"')
