"""``--chmod`` of COPY and ADD: octal modes, and changes as chmod(1) writes them (``u+x,go-w``)."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass

from tare.errors import InvalidArgument

_ALL = 0o7777
_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)")
_ACTION = re.compile(r"([-+=])([ugo]|[rwxXst]*)")
_SHIFT = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 4, "w": 2, "x": 1}
_SPECIAL = {"u": stat.S_ISUID, "g": stat.S_ISGID}


@dataclass(frozen=True, slots=True)
class ModeChange:
    """What happens to permission bits: ``octal`` replaces them, else ``clauses`` change them one after the other."""

    octal: int | None = None
    clauses: tuple[tuple[str, str, str], ...] = ()

    def apply(self, mode: int, *, is_directory: bool) -> int:
        """The bits (with setuid, setgid and sticky) that ``mode`` becomes."""
        if self.octal is not None:
            return self.octal
        for who, action, what in self.clauses:
            mode = _act(mode, who, action, what, is_directory=is_directory)
        return mode

    @property
    def of_new_directories(self) -> int:
        """The mode of directories that have to be made on the way to a destination (BuildKit's, under umask 022)."""
        return 0o755 if self.octal is None else self.octal & 0o755


def parse_mode(text: str) -> ModeChange:
    """Read the value of ``--chmod``. Raises InvalidArgument."""
    if text and all(char in "01234567" for char in text):
        if len(text.lstrip("0")) > 4:
            raise InvalidArgument(
                f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777",
                hint="write a mode such as 0755",
            )
        return ModeChange(octal=int(text, 8))
    clauses: list[tuple[str, str, str]] = []
    for clause in text.split(","):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise InvalidArgument(
                f"invalid chmod parameter: '{text}'",
                hint="write a mode such as 0755 or a change such as u+x,go-w",
            )
        who = "".join(sorted(set(match[1]))) or "a"
        clauses.extend((who, action, what) for action, what in _ACTION.findall(match[2]))
    return ModeChange(clauses=tuple(clauses))


def _act(mode: int, who: str, action: str, what: str, *, is_directory: bool) -> int:
    classes = "ugo" if "a" in who else who
    given = 0
    clear = 0
    for name in classes:
        given |= _permissions(mode, what, is_directory=is_directory) << _SHIFT[name]
        clear |= 7 << _SHIFT[name] | _SPECIAL.get(name, 0)
        if "s" in what and what not in _SHIFT:
            given |= _SPECIAL.get(name, 0)
    if "t" in what and "a" in who:  # sticky has no class of its own
        given |= stat.S_ISVTX
    if action == "+":
        return mode | given
    if action == "-":
        return mode & ~given & _ALL
    return (mode & ~clear & _ALL) | given


def _permissions(mode: int, what: str, *, is_directory: bool) -> int:
    """The three bits that ``what`` stands for: letters, or a class whose bits are copied."""
    if what in _SHIFT:
        return mode >> _SHIFT[what] & 7
    bits = sum(_BITS[letter] for letter in set(what) if letter in _BITS)
    if "X" in what and (is_directory or mode & 0o111):
        bits |= 1
    return bits
