"""Splitting an instruction's text: builder flags, quoted words, JSON arrays."""

from __future__ import annotations

import json
import re
from typing import Any

from tare.errors import InvalidArgument

_BLANKS = re.compile(r"[\t\v\f\r ]+")


def split_blanks(text: str) -> list[str]:
    """The words of ``text`` between blanks; quotes mean nothing."""
    return [word for word in _BLANKS.split(text) if word]


def split_once(text: str) -> tuple[str, str]:
    """The first word and the rest, without the blanks between."""
    parts = _BLANKS.split(text, maxsplit=1)
    return parts[0], parts[1] if len(parts) > 1 else ""


def split_flags(text: str) -> tuple[tuple[str, ...], str]:
    """The words starting with ``--`` at the start of ``text`` (quotes and escapes removed), and what follows.

    ``--`` alone ends the flags.
    """
    flags: list[str] = []
    position = 0
    while True:
        while position < len(text) and text[position].isspace():
            position += 1
        if not text.startswith("--", position):
            return tuple(flags), text[position:]
        word, position = _flag_word(text, position)
        if word == "--":
            return tuple(flags), text[position:].lstrip()
        flags.append(word)


def _flag_word(text: str, position: int) -> tuple[str, int]:
    word: list[str] = []
    quote = ""
    while position < len(text):
        char = text[position]
        position += 1
        if char == "\\" and quote != "'":
            word.append(text[position : position + 1])
            position += 1
        elif quote:
            if char == quote:
                quote = ""
            else:
                word.append(char)
        elif char in "'\"":
            quote = char
        elif char.isspace():
            break
        else:
            word.append(char)
    return "".join(word), min(position, len(text))


def quoted_words(text: str, escape: str) -> list[str]:
    """Words of ENV, LABEL and ARG: blanks inside quotes or after an escape do not split; quotes and escapes stay."""
    words: list[str] = []
    word: list[str] = []
    quote = ""
    position = 0
    while position < len(text):
        char = text[position]
        position += 1
        if char == escape and quote != "'":
            if position < len(text):
                word += (char, text[position])
                position += 1
            continue
        if not quote and char.isspace():
            if word:
                words.append("".join(word))
                word.clear()
            continue
        if char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        word.append(char)
    if word:
        words.append("".join(word))
    return words


def json_strings(text: str) -> list[str] | None:
    """The strings of a JSON array; None where the text is not one.

    Raises InvalidArgument for an array of anything else.
    """
    text = text.lstrip()
    if not text.startswith("["):
        return None
    try:
        values: Any = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(value, str) for value in values):
        raise InvalidArgument("when using JSON array syntax, arrays must be comprised of strings only")
    # Escapes such as \ud800 alone are no text: they become the replacement character.
    return [value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for value in values]


def _refuse_constant(name: str) -> None:
    raise ValueError(name)
