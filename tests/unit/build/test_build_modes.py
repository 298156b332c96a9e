"""--chmod: as chmod(1) does it, and as BuildKit where the two differ."""

from __future__ import annotations

import itertools
import stat
import subprocess
from pathlib import Path

import pytest

from tare.build.modes import parse_mode
from tare.errors import InvalidArgument

CHANGES = ["u+x", "go-w", "a=rX", "+x", "u=g", "g=u-w,o=", "u+rwx,g-x,o=r", "a+X", "u-s", "go=u", "o=g,g="]
MODES = [0o644, 0o755, 0o600, 0o4755, 0o2711, 0o000]  # without sticky: `=` takes it away in chmod(1), not in BuildKit


@pytest.mark.parametrize("change", CHANGES)
def test_files_are_changed_as_chmod_changes_them(tmp_path: Path, change: str) -> None:
    file = tmp_path / "f"
    file.touch()
    for mode in MODES:
        file.chmod(mode)
        subprocess.run(["chmod", "a+x" if change == "+x" else change, file], check=True)  # the umask does not count
        expected = stat.S_IMODE(file.stat().st_mode)
        assert oct(parse_mode(change).apply(mode, is_directory=False)) == oct(expected), (change, oct(mode))


@pytest.mark.parametrize(
    ("change", "before", "directory", "after"),
    [
        ("u+x,go-r", 0o700, True, 0o700),
        ("u+x,go-r", 0o4755, False, 0o4711),
        ("a=rX", 0o4755, False, 0o555),
        ("a=rX", 0o3777, True, 0o1555),
        ("a=rX", 0o644, False, 0o444),
        ("g+s,u=rw,o=", 0o4755, False, 0o2650),
        ("=r", 0o3777, True, 0o1444),
        ("u=g,o+t", 0o644, False, 0o444),
        ("u=g,o+t", 0o3777, True, 0o3777),
        ("u=rwX,go=u-w", 0o644, False, 0o644),
        ("a+X", 0o4755, False, 0o4755),
        ("02755", 0o644, False, 0o2755),
    ],
)
def test_what_buildkit_makes_of_it(change: str, before: int, directory: bool, after: int) -> None:
    assert oct(parse_mode(change).apply(before, is_directory=directory)) == oct(after)


@pytest.mark.parametrize("text", ["zz", "u", "u+q", "99", "12345", "u+x,", "u+ug", "rwx", "-"])
def test_nonsense(text: str) -> None:
    if text == "-":
        assert parse_mode(text).apply(0o644, is_directory=False) == 0o644  # takes nothing away, as in chmod(1)
        return
    with pytest.raises(InvalidArgument, match="invalid chmod parameter"):
        parse_mode(text)


def test_new_directories_follow_octal_modes_only() -> None:
    assert parse_mode("02750").of_new_directories == 0o750
    assert parse_mode("u-w").of_new_directories == 0o755


def test_clauses_apply_one_after_the_other() -> None:
    for first, second in itertools.permutations(["u+x", "u-x"]):
        result = parse_mode(f"{first},{second}").apply(0o644, is_directory=False)
        assert bool(result & 0o100) is (second == "u+x")
