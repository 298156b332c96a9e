"""Words of commands in maintainer scripts: options, paths, modes, owners."""

from __future__ import annotations

from collections.abc import Sequence

from tare.distroless.shell_syntax import UNKNOWN

TEMPORARY = "/tmp/"
"""Where scripts prepare files; nothing of it stays in an image."""


class Matters(Exception):
    """The command changes something that is not done here; the message says what is lost."""


def displayed(word: str) -> str:
    """The word as people read it."""
    return word.replace(UNKNOWN, "…") if word else "a file"


def is_path(word: str) -> bool:
    """Whether the word is one path from the root, known to the end."""
    return (
        word.startswith("/")
        and not any(mark in word for mark in (UNKNOWN, "*", "?", "["))
        and ".." not in word.split("/")
    )


def options_of(
    words: Sequence[str], with_value: str = "", long_with_value: Sequence[str] = ()
) -> tuple[dict[str, str], list[str]]:
    """Options and operands, as getopt(3) tells them apart; letters of ``with_value`` take one."""
    found: dict[str, str] = {}
    rest: list[str] = []
    pending = list(words)
    while pending:
        word = pending.pop(0)
        if word == "--":
            return found, rest + pending
        if word.startswith("--"):
            name, separator, value = word[2:].partition("=")
            if not separator and name in long_with_value:
                value = pending.pop(0) if pending else ""
            found[name] = value
        elif word.startswith("-") and len(word) > 1:
            for at, letter in enumerate(word[1:], 1):
                if letter in with_value:
                    found[letter] = word[at + 1 :] or (pending.pop(0) if pending else "")
                    break
                found[letter] = ""
        else:
            rest.append(word)
    return found, rest


def paths_of(words: Sequence[str], what: str) -> list[str]:
    """The words, which must be paths. Raises Matters, naming ``what`` and the word that is none."""
    for word in words:
        if not is_path(word):
            raise Matters(f"{what} {displayed(word)}")
    return list(words)


def mode_of(word: str | None) -> int | None:
    """An octal mode. Raises Matters."""
    if word is None:
        return None
    try:
        return int(word, 8)
    except ValueError as error:
        raise Matters(f"the mode {displayed(word)}") from error


def owner_of(word: str) -> tuple[str | None, str | None]:
    """User and group of ``user:group``, each ``None`` when it is left out. Raises Matters."""
    user, _, group = word.partition(":")
    if ":" not in word and "." in word:
        user, _, group = word.partition(".")
    if UNKNOWN in word or (not user and not group):
        raise Matters(f"the owner {displayed(word)}")
    return user or None, group or None
