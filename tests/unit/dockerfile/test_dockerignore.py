from __future__ import annotations

import pytest

from tare.build.dockerfile.dockerignore import IgnoreRules
from tare.errors import InvalidArgument

# Rules, path, left out?
ROWS = [
    ("*", "file", True),
    ("*", "dir/file", True),
    ("*.go", "a.go", True),
    ("*.go", "dir/a.go", False),
    ("**/*.go", "dir/a.go", True),
    ("**/*.go", "a.go", True),
    ("**/*.go", "d/e/a.gone", False),
    ("**", "a/b", True),
    ("**/", "a", True),
    ("dir", "dir", True),
    ("dir", "dir/file", True),
    ("dir", "dirx", False),
    ("dir", "x/dir", False),
    ("dir/", "dir", True),
    ("dir/", "dir/file", True),
    ("/dir", "dir/file", True),
    ("./dir", "dir", True),
    ("a/../dir", "dir", True),
    ("dir/.", "dir", True),
    (".", "file", False),
    ("/", "file", False),
    ("../x", "x", False),
    ("dir/**", "dir/x", True),
    ("dir/**", "dir/x/y", True),
    ("dir/**", "dir", False),
    ("dir/*", "dir/x/y", True),
    ("**/dir", "dir", True),
    ("**/dir", "a/b/dir/file", True),
    ("**/dir", "xdir", False),
    ("**/dir2/*", "dir/dir2/file", True),
    ("**/dir2/**", "dir/dir2/dir3/file", True),
    ("**file", "dir/xfile", True),
    ("**file*", "dir/xfile", False),
    ("a**/*.txt", "a/dir/dir/file.txt", True),
    ("a/*.txt", "a/dir/file.txt", False),
    ("a/*.txt**", "a/file.txt", True),
    ("a**", "abc/def", True),
    ("a**b", "axb", False),
    ("a**b", "a/x/b", True),
    ("a?c", "abc", True),
    ("a?c", "a/c", False),
    ("a[b-d]e", "ace", True),
    ("a[b-d]e", "aae", False),
    ("a[^b-d]e", "aze", True),
    ("a[^b-d]e", "ace", False),
    (r"[\]a]", "]", True),
    (r"[x\-]", "-", True),
    (r"a\*b", "a*b", True),
    (r"a\*b", "axb", False),
    (".*", ".foo", True),
    (".*", "foo", False),
    ("abc.def", "abcZdef", False),
    ("a.|)$(}+{bc", "a.|)$(}+{bc", True),
    ("a?b", "a☺b", True),
    ("# comment", "# comment", False),
    ("  spaced  ", "spaced", True),
    ("docs\n!docs/README.md", "docs/README.md", False),
    ("docs\n!docs/README.md", "docs/other", True),
    ("!docs/README.md\ndocs", "docs/README.md", True),
    ("**\n!util/web", "util/web/foo", False),
    ("**\n!util/web\nutil/web/foo", "util/web/foo", True),
    ("*\n!dist/*.whl", "dist/a.whl", False),
    ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", True),
    ("*.md\n!README*.md\nREADME-secret.md", "README-x.md", False),
    ("*\n! a", "a", False),
    ("*\r\n!a\r\n", "a", False),
    ("\ufeffa", "a", True),
    ("", "a", False),
]


@pytest.mark.parametrize(("text", "path", "ignored"), ROWS)
def test_matches(text: str, path: str, ignored: bool) -> None:
    assert IgnoreRules.parse(text).matches(path) is ignored


@pytest.mark.parametrize("pattern", ["[", "a[", "[^", "[^bc", "[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "a\\"])
def test_malformed_patterns_name_their_line(pattern: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^\.dockerignore:2: syntax error in pattern"):
        IgnoreRules.parse(f"ok\n{pattern}\n")


def test_exclamation_mark_alone() -> None:
    with pytest.raises(InvalidArgument, match='illegal exclusion pattern: "!"'):
        IgnoreRules.parse("!\n")


def test_decision_names_the_rule() -> None:
    rules = IgnoreRules.parse("# top\n!early\nnode_modules\n*.log\n!keep.log\n")
    decision = rules.decide("a.log")
    assert decision.ignored and decision.rule is not None
    assert (decision.rule.line, decision.rule.text) == (4, "*.log")
    kept = rules.decide("keep.log")
    assert not kept.ignored and kept.rule is not None and kept.rule.text == "!keep.log"
    assert rules.decide("early").rule is None
    assert rules.decide("src/main.py").rule is None
    deep = rules.decide("node_modules/a/b/c")
    assert deep.rule is not None and deep.rule.line == 3


@pytest.mark.parametrize(
    ("text", "directory", "prune"),
    [
        ("node_modules", "node_modules", True),
        ("node_modules", "node_modules/a", True),
        ("node_modules", "src", False),
        ("**/node_modules", "a/b/node_modules", True),
        ("dir\n!dir/keep", "dir", False),
        ("dir\n!dir/keep", "dir/other", True),
        ("dir\n!dir/keep", "dir/keep", False),
        ("dir\n!dir/keep/deep/x", "dir/keep", False),
        ("dir\n!other/keep", "dir", True),
        ("dir\n!*.md", "dir", True),
        ("dir\n!*/x", "dir", False),
        ("dir\n!**/x", "dir", False),
        ("dir\n!d[a-i]r/x", "dir", False),
        ("!dir/keep\ndir", "dir", True),
        ("dir\n!dir", "dir", False),
        ("*\n!src", "src", False),
        ("*\n!src", "doc", True),
        ("dir/**", "dir", False),
    ],
)
def test_can_prune(text: str, directory: str, prune: bool) -> None:
    assert IgnoreRules.parse(text).can_prune(directory) is prune


def test_pruning_never_loses_a_path() -> None:
    texts = ["*\n!a/b/c", "a\n!a/*/c\na/x", "**\n!**/c", "a/b\n!a\nb", "a*\n!a/b\na/b/c", "*\n!a\na/*\n!a/b/c"]
    names = ["a", "b", "c", "x"]
    paths = ["/".join(parts) for one in names for two in names for parts in ([one], [one, two], [one, two, "c"])]
    for text in texts:
        rules = IgnoreRules.parse(text)
        for path in paths:
            parents = ["/".join(path.split("/")[: index + 1]) for index in range(path.count("/"))]
            if any(rules.can_prune(parent) for parent in parents):
                assert rules.matches(path), (text, path)


def test_memory_of_directories_changes_nothing() -> None:
    rules = IgnoreRules.parse("a\n!a/b\na/b/c\n")
    assert rules.matches("a", is_dir=True)
    assert not rules.matches("a/b", is_dir=True)
    assert rules.matches("a/b/c", is_dir=True)
    fresh = IgnoreRules.parse("a\n!a/b\na/b/c\n")
    for path in ("a/b/c/d", "a/b/x", "a/x", "b"):
        assert rules.matches(path) == fresh.matches(path)


def test_exclude_patterns() -> None:
    rules = IgnoreRules.from_patterns(["*.txt", "!a.txt", ""])
    assert [rules.matches(name) for name in ("a.txt", "b.txt", "c")] == [False, True, False]
    assert rules and not IgnoreRules()
