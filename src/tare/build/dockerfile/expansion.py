"""Variables, quotes and escapes in Dockerfile words (Dockerfile reference, "Environment replacement").

Understood are ``$x ${x}``, defaults ``:- - :+ + :? ?`` and the pattern forms ``# ## % %% / //``. Quotes are removed; in
single quotes nothing is special; in double quotes the escape character is special before ``"``, ``$`` and itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from tare.build.dockerfile.patterns import ShellPattern
from tare.errors import InvalidArgument

_MAX_DEPTH = 100
_MAX_RESULT = 16 * 1024 * 1024
_SPECIAL_PARAMETERS = frozenset("@*#?-$!0")


@dataclass(frozen=True, slots=True)
class Expansion:
    """A word expanded: as one ``text``, split into ``words``, and the names of variables that were found and not."""

    text: str
    words: tuple[str, ...]
    used: frozenset[str]
    undefined: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpansionRules:
    """What is special. ``escape`` is the escape character; the rest departs from the rules for words.

    ``keep_quotes`` and ``keep_escapes`` leave quotes and escape characters in the result, ``plain_quotes`` makes
    quotes ordinary characters (heredocs), ``keep_undefined`` leaves references to unknown variables as they are.
    """

    escape: str = "\\"
    keep_quotes: bool = False
    keep_escapes: bool = False
    plain_quotes: bool = False
    keep_undefined: bool = False


_WORD_RULES = ExpansionRules()
_HEREDOC_RULES = ExpansionRules(plain_quotes=True)


def expand(word: str, env: Mapping[str, str], escape: str = "\\") -> str:
    """``word`` with variables of ``env`` put in and quotes removed; raises InvalidArgument."""
    return expand_result(word, env, ExpansionRules(escape=escape)).text


def expand_words(word: str, env: Mapping[str, str], escape: str = "\\") -> list[str]:
    """As :func:`expand`, then split at white space that is neither quoted nor escaped; empty words vanish."""
    return list(expand_result(word, env, ExpansionRules(escape=escape)).words)


def expand_heredoc(text: str, env: Mapping[str, str]) -> str:
    """A heredoc's text with variables put in: quotes are ordinary, a backslash escapes; raises InvalidArgument."""
    return expand_result(text, env, _HEREDOC_RULES).text


def expand_result(word: str, env: Mapping[str, str], rules: ExpansionRules = _WORD_RULES) -> Expansion:
    """The whole outcome of expanding ``word``; raises InvalidArgument that quotes it."""
    expander = _Expander(word, env, rules)
    try:
        fragments = expander.scan(None, rules.keep_escapes)
    except InvalidArgument as error:
        shown = json.dumps(word if len(word) <= 200 else word[:200] + "…", ensure_ascii=False)
        raise InvalidArgument(f"failed to process {shown}: {error.message}", hint=error.hint) from error
    text = "".join(fragment for fragment, _ in fragments)
    return Expansion(text, tuple(_split(fragments)), frozenset(expander.used), frozenset(expander.undefined))


def _split(fragments: list[tuple[str, bool]]) -> list[str]:
    """Words of fragments; the flag says that white space in the fragment separates."""
    words: list[str] = []
    current: list[str] = []

    def close() -> None:
        word = "".join(current)
        current.clear()
        if word:
            words.append(word)

    for text, separates in fragments:
        if not separates:
            current.append(text)
            continue
        pieces = text.split()
        if not pieces:
            if text:
                close()
            continue
        if text[0].isspace():
            close()
        for index, piece in enumerate(pieces):
            if index:
                close()
            current.append(piece)
        if text[-1].isspace():
            close()
    close()
    return words


class _Expander:
    """One pass over a word; ``position`` moves forward only, except that nothing is ever read twice."""

    def __init__(self, text: str, env: Mapping[str, str], rules: ExpansionRules) -> None:
        self.text = text
        self.env = env
        self.rules = rules
        self.position = 0
        self.depth = 0
        self.size = 0
        self.used: set[str] = set()
        self.undefined: set[str] = set()

    def _peek(self) -> str:
        return self.text[self.position : self.position + 1]

    def _next(self) -> str:
        char = self._peek()
        self.position += 1
        return char

    def _ended(self) -> bool:
        return self.position >= len(self.text)

    def scan(self, stop: str | None, keep_escapes: bool) -> list[tuple[str, bool]]:
        """Fragments up to ``stop`` (which is consumed) or the end; the flag says that the fragment may be split."""
        fragments: list[tuple[str, bool]] = []
        while not self._ended():
            char = self._peek()
            if char == stop:
                self.position += 1
                return fragments
            if char == "$":
                fragments.append((self._dollar(), True))
            elif char == "'" and not self.rules.plain_quotes:
                fragments.append((self._single_quoted(), False))
            elif char == '"' and not self.rules.plain_quotes:
                fragments.append((self._double_quoted(keep_escapes), False))
            elif char == self.rules.escape:
                self.position += 1
                escaped = self._next()
                fragments.append(((char if keep_escapes else "") + escaped, False))
            else:
                fragments.append((self._plain(stop), True))
        if stop is not None:
            raise InvalidArgument(f"unexpected end of statement while looking for matching {stop}")
        return fragments

    def _plain(self, stop: str | None) -> str:
        special = {"$", "'", '"', self.rules.escape, stop}
        start = self.position
        self.position += 1
        while not self._ended() and self.text[self.position] not in special:
            self.position += 1
        return self.text[start : self.position]

    def _scan_text(self, stop: str, keep_escapes: bool, missing: str) -> str:
        """The text up to ``stop`` inside ``${…}``; ``missing`` is the cause where the end comes first."""
        try:
            return "".join(fragment for fragment, _ in self.scan(stop, keep_escapes))
        except InvalidArgument as error:
            if self._ended() and error.message.startswith("unexpected end of statement while looking for matching "):
                raise InvalidArgument(f"syntax error: missing {missing}") from None
            raise

    def _single_quoted(self) -> str:
        end = self.text.find("'", self.position + 1)
        if end < 0:
            self.position = len(self.text)
            raise InvalidArgument("unexpected end of statement while looking for matching single-quote")
        content = self.text[self.position + 1 : end]
        self.position = end + 1
        return f"'{content}'" if self.rules.keep_quotes else content

    def _double_quoted(self, keep_escapes: bool) -> str:
        quote = '"' if self.rules.keep_quotes else ""
        self.position += 1
        parts = [quote]
        while not self._ended():
            char = self._peek()
            if char == "$":
                parts.append(self._dollar())
                continue
            self.position += 1
            if char == '"':
                parts.append(quote)
                return "".join(parts)
            if char == self.rules.escape:
                if keep_escapes:
                    parts.append(char)
                following = self._peek()
                if following and following in ('"', "$", self.rules.escape):
                    char = self._next()
                elif not following or keep_escapes:
                    continue
            parts.append(char)
        raise InvalidArgument("unexpected end of statement while looking for matching double-quote")

    def _dollar(self) -> str:
        self.position += 1
        if self._peek() != "{":
            name = self._name()
            if not name:
                return "$"
            value = self._value(name)
            return f"${name}" if value is None and self.rules.keep_undefined else self._count(value or "")
        self.position += 1
        if self.depth >= _MAX_DEPTH:
            raise InvalidArgument(f"substitutions are nested more than {_MAX_DEPTH} levels deep")
        self.depth += 1
        try:
            return self._count(self._braced())
        finally:
            self.depth -= 1

    def _braced(self) -> str:
        if self._ended():
            raise InvalidArgument("syntax error: missing '}'")
        if self._peek() in "{}:":
            raise InvalidArgument("syntax error: bad substitution")
        name = self._name()
        if self._ended():
            raise InvalidArgument("syntax error: missing '}'")
        operator = self._next()
        if operator == "}":
            value = self._value(name)
            return f"${{{name}}}" if value is None and self.rules.keep_undefined else value or ""
        if operator == "/":
            return self._replaced(name)
        colon = operator == ":"
        if colon:
            operator = self._next()
        shown = f":{operator}" if colon else operator
        if not colon and operator not in "+-?#%":
            raise InvalidArgument(f"unsupported modifier ({shown}) in substitution")
        word = self._scan_text("}", operator in ("#", "%"), "'}'")
        value = self._value(name)
        if value is None and self.rules.keep_undefined:
            return f"${{{name}{shown}{word}}}"
        if operator in ("#", "%") and not colon:
            return _trimmed(value or "", operator, word)
        return _defaulted(name, value, operator, word, colon=colon)

    def _replaced(self, name: str) -> str:
        everywhere = self._peek() == "/"
        if everywhere:
            self.position += 1
        pattern = self._scan_text("/", True, "'/' in ${}")
        replacement = self._scan_text("}", True, "'}'")
        value = self._value(name)
        if value is None and self.rules.keep_undefined:
            return f"${{{name}/{'/' if everywhere else ''}{pattern}/{replacement}}}"
        return ShellPattern.parse(pattern).replace(value or "", replacement, everywhere=everywhere)

    def _name(self) -> str:
        """The variable's name at the position: letters, digits, underscore; digits alone; or one special sign."""
        start = self.position
        first = self._peek()
        if first.isdecimal():
            while self._peek().isdecimal():
                self.position += 1
        elif first in _SPECIAL_PARAMETERS:
            self.position += 1
        else:
            while (char := self._peek()) and (char.isalpha() or char.isdecimal() or char == "_"):
                self.position += 1
        return self.text[start : self.position]

    def _value(self, name: str) -> str | None:
        value = self.env.get(name)
        (self.undefined if value is None else self.used).add(name)
        return value

    def _count(self, text: str) -> str:
        self.size += len(text)
        if self.size > _MAX_RESULT:
            raise InvalidArgument(f"the expanded text is larger than {_MAX_RESULT} characters")
        return text


def _defaulted(name: str, value: str | None, operator: str, word: str, *, colon: bool) -> str:
    """The forms ``-``, ``+`` and ``?``; with a colon an empty value counts as none."""
    missing = value is None or (colon and not value)
    if operator == "-":
        return word if value is None or missing else value
    if operator == "+":
        return "" if missing else word
    if operator == "?":
        if value is None or missing:
            cause = "is not allowed to be unset" if value is None else "is not allowed to be empty"
            raise InvalidArgument(f"{name}: {word or cause}")
        return value
    raise InvalidArgument(f"unsupported modifier (:{operator}) in substitution")


def _trimmed(value: str, operator: str, word: str) -> str:
    """``value`` without the prefix (``#``) or suffix (``%``) that the pattern ``word`` matches."""
    longest = word.startswith(operator)
    pattern = ShellPattern.parse(word[1:] if longest else word)
    if operator == "#":
        end = pattern.prefix(value, longest=longest)
        return value if end is None else value[end:]
    end = pattern.reversed().prefix(value[::-1], longest=longest)
    return value if end is None else value[: len(value) - end]
