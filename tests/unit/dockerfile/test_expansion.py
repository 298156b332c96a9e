from __future__ import annotations

import time

import pytest

from tare.build.dockerfile.expansion import ExpansionRules, expand, expand_heredoc, expand_result, expand_words
from tare.errors import InvalidArgument

ENV = {
    "a": "A",
    "empty": "",
    "path": "/usr/local/lib/x.tar.gz",
    "words": "one two  three",
    "star": "a*b*c",
    "PORT": "8080",
    "ö": "umlaut",
    "f": "foo.foo",
}

ROWS = [
    ("plain", "plain"),
    ("", ""),
    ("$a", "A"),
    ("${a}", "A"),
    ("x${a}y", "xAy"),
    ("$a$a", "AA"),
    ("$ab", ""),
    ("$missing", ""),
    ("${missing}", ""),
    ("$ö", "umlaut"),
    ("$", "$"),
    ("a$", "a$"),
    ("$ a", "$ a"),
    ("$.x", "$.x"),
    ("$1x", "x"),
    ("$12", ""),
    ("$@x", "x"),
    (r"\$a", "$a"),
    (r"\\$a", r"\A"),
    (r"\a", "a"),
    ("trailing\\", "trailing"),
    ("'$a'", "$a"),
    (r"'\$a'", r"\$a"),
    ('"$a"', "A"),
    (r'"\$a"', "$a"),
    (r'"\"q\""', '"q"'),
    (r'"\\"', "\\"),
    (r'"\x"', r"\x"),
    ('"it\'s"', "it's"),
    ("'say \"x\"'", 'say "x"'),
    ("a\"b\"'c'd", "abcd"),
    ("''", ""),
    ("${missing:-d}", "d"),
    ("${empty:-d}", "d"),
    ("${a:-d}", "A"),
    ("${missing-d}", "d"),
    ("${empty-d}", ""),
    ("${a-d}", "A"),
    ("${missing:+d}", ""),
    ("${empty:+d}", ""),
    ("${a:+d}", "d"),
    ("${missing+d}", ""),
    ("${empty+d}", "d"),
    ("${a+d}", "d"),
    ("${a:?no}", "A"),
    ("${a?no}", "A"),
    ("${empty?no}", ""),
    ("${missing:-}", ""),
    ("${missing:-$a}", "A"),
    ("${missing:-${other:-${a}}}", "A"),
    ("${missing:-a b}", "a b"),
    ("${missing:-'}'}", "}"),
    ('${missing:-"}"}', "}"),
    (r"${missing:-\}}", "}"),
    ("${path#*/}", "usr/local/lib/x.tar.gz"),
    ("${path##*/}", "x.tar.gz"),
    ("${path%.*}", "/usr/local/lib/x.tar"),
    ("${path%%.*}", "/usr/local/lib/x"),
    ("${path#/usr}", "/local/lib/x.tar.gz"),
    ("${path#usr}", "/usr/local/lib/x.tar.gz"),
    ("${path%.g?}", "/usr/local/lib/x.tar"),
    ("${path%x}", "/usr/local/lib/x.tar.gz"),
    ("${path##*}", ""),
    ("${path#*}", "/usr/local/lib/x.tar.gz"),
    ("${path%%*}", ""),
    ("${path%/*/*}", "/usr/local"),
    ("${path##/*/l}", "ib/x.tar.gz"),
    (r"${star#a\*}", "b*c"),
    (r"${star%%\**}", "a"),
    ("${f/foo/bar}", "bar.foo"),
    ("${f//foo/bar}", "bar.bar"),
    ("${f//o/}", "f.f"),
    ("${f/o*/X}", "fX"),
    ("${f//?/x}", "xxxxxxx"),
    (r"${path//\//-}", "-usr-local-lib-x.tar.gz"),
    ("${f//./$a}", "fooAfoo"),
    ("${f/nothing/x}", "foo.foo"),
    ("${missing/x/y}", ""),
    ("${missing#x}", ""),
    ("${star//*/x}", "x"),
    ("${a//$a/b}", "b"),
]

BAD = [
    ("${", "syntax error: missing '}'"),
    ("${a", "syntax error: missing '}'"),
    ("${a:", "syntax error: missing '}'"),
    ("${a:-x", "syntax error: missing '}'"),
    ("${a#x", "syntax error: missing '}'"),
    ("${a/x", "syntax error: missing '/' in ${}"),
    ("${a/x/y", "syntax error: missing '}'"),
    ("${}", "syntax error: bad substitution"),
    ("${:x}", "syntax error: bad substitution"),
    ("${{a}}", "syntax error: bad substitution"),
    ("${a=x}", "unsupported modifier (=) in substitution"),
    ("${a:x}", "unsupported modifier (:x) in substitution"),
    ("${a:#x}", "unsupported modifier (:#) in substitution"),
    ("'open", "unexpected end of statement while looking for matching single-quote"),
    ('"open', "unexpected end of statement while looking for matching double-quote"),
    ("${missing?}", "missing: is not allowed to be unset"),
    ("${missing:?}", "missing: is not allowed to be unset"),
    ("${empty:?}", "empty: is not allowed to be empty"),
    ("${missing:?give $a}", "missing: give A"),
    (r"${a#\x}", r"invalid pattern (\x) in substitution: invalid escape '\x'"),
]


@pytest.mark.parametrize(("word", "expected"), ROWS)
def test_expand(word: str, expected: str) -> None:
    assert expand(word, ENV) == expected


@pytest.mark.parametrize(("word", "cause"), BAD)
def test_expand_refuses(word: str, cause: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        expand(word, ENV)
    assert caught.value.message.startswith('failed to process "')
    assert caught.value.message.endswith(f": {cause}")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("", []),
        ("a b", ["a", "b"]),
        ("  a\t b  ", ["a", "b"]),
        ('"a b" c', ["a b", "c"]),
        ("a\\ b c", ["a b", "c"]),
        ("$words", ["one", "two", "three"]),
        ('"$words"', ["one two  three"]),
        ("x$words", ["xone", "two", "three"]),
        ("${words}y z", ["one", "two", "threey", "z"]),
        ("$empty a", ["a"]),
        ('"" a', ["a"]),
        ("a'b c'd", ["ab cd"]),
        ("${missing:-1 2} 3", ["1", "2", "3"]),
        ("80 ${PORT}/tcp", ["80", "8080/tcp"]),
    ],
)
def test_words(word: str, expected: list[str]) -> None:
    assert expand_words(word, ENV) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [("`$a", "$a"), ("C:\\$a", "C:\\A"), ('"`""', '"'), ("\\", "\\"), ("a``b", "a`b")],
)
def test_other_escape_character(word: str, expected: str) -> None:
    assert expand(word, ENV, "`") == expected


def test_heredoc_text_keeps_quotes() -> None:
    text = "it's \"$a\" '${a}'\n\\$a ${missing:-'x'}\n"
    assert expand_heredoc(text, ENV) == "it's \"A\" 'A'\n$a 'x'\n"


def test_names_are_reported() -> None:
    result = expand_result("$a ${b:-$c} '$d' ${empty:+$e}", ENV)
    assert result.used == {"a", "empty"}
    assert result.undefined == {"b", "c", "e"}


def test_undefined_can_stay() -> None:
    rules = ExpansionRules(keep_undefined=True)
    word = "$a $x ${x} ${x:-d} ${x#p} ${x/p/q} ${x//p/q}"
    assert expand_result(word, ENV, rules).text == "A $x ${x} ${x:-d} ${x#p} ${x/p/q} ${x//p/q}"


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="nested more than 100 levels"):
        expand("${x:-" * 5000 + "}" * 5000, {})


def test_large_results_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="larger than"):
        expand("$x" * 100, {"x": "y" * 1_000_000})


def test_patterns_do_not_backtrack() -> None:
    start = time.process_time()
    assert expand("${x##" + "*a" * 25 + "b}", {"x": "a" * 5000}) == "a" * 5000
    assert time.process_time() - start < 2
