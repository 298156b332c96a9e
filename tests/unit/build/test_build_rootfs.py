from __future__ import annotations

from pathlib import Path

import pytest

from tare.build.ops.rootfs import Link, Owner, find_owner, leaving_link, lstat, resolve
from tare.errors import InvalidArgument, NotFound


def test_links_are_followed_inside_the_root(tmp_path: Path) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "lib").symlink_to("usr/lib")
    (tmp_path / "abs").symlink_to("/usr")
    (tmp_path / "out").symlink_to("../../../../etc")
    assert resolve(tmp_path, "/lib/x/y") == "usr/lib/x/y"
    assert resolve(tmp_path, "abs/lib") == "usr/lib"
    assert resolve(tmp_path, "out/passwd") == "etc/passwd"
    assert resolve(tmp_path, "../../..") == ""
    assert resolve(tmp_path, "lib", follow_last=False) == "lib"
    assert resolve(tmp_path, "lib/../x") == "usr/x"
    assert lstat(tmp_path, "nothing/there") is None


def test_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(InvalidArgument, match="too many levels of symbolic links"):
        resolve(tmp_path, "a")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/:\nbroken\napp:x:10:20::/:\nodd:x:a:b::/:\n")
    (tmp_path / "etc/group").write_text("root:x:0:\nstaff:x:50:\n")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "owner"),
    [
        ("app", Owner(10, 20)),
        ("app:staff", Owner(10, 50)),
        ("app:7", Owner(10, 7)),
        ("55", Owner(55, 55)),
        ("55:staff", Owner(55, 50)),
        ("", Owner(0, 0)),
        (":staff", Owner(0, 50)),
    ],
)
def test_owners(root: Path, text: str, owner: Owner) -> None:
    assert find_owner(root, text) == owner


@pytest.mark.parametrize(
    ("text", "words"), [("nobody", "user 'nobody'"), ("app:x", "group 'x'"), ("odd", "user 'odd'")]
)
def test_unknown_names_are_named(root: Path, text: str, words: str) -> None:
    with pytest.raises(NotFound, match=words):
        find_owner(root, text)


def test_the_user_database_is_not_read_outside_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (tmp_path / "passwd").write_text("app:x:1:1::/:\n")
    (root / "etc/passwd").symlink_to("../../passwd")
    with pytest.raises(NotFound):
        find_owner(root, "app")


def test_what_is_about_to_be_written_counts(tmp_path: Path) -> None:
    (tmp_path / "old").symlink_to("elsewhere")
    written = {"new": "dir", "dir": None, "old": None}
    assert resolve(tmp_path, "new/x", written=written) == "dir/x"
    assert resolve(tmp_path, "old/x", written=written) == "old/x"
    assert resolve(tmp_path, "old/x") == "elsewhere/x"
    with pytest.raises(InvalidArgument, match="too many levels"):
        resolve(tmp_path, "a/x", written={"a": "b", "b": "a"})


@pytest.mark.parametrize(
    ("path", "link"),
    [
        ("file", None),
        ("inside", None),
        ("top", None),
        ("d/../file", None),
        ("none/at/all", None),
        ("absolute", Link("absolute", "/etc/hostname")),
        ("d/up", Link("d/up", "../../x")),
        ("d/chain/x", Link("d/chain", "up")),
        ("away/passwd", Link("away", "/etc")),
    ],
)
def test_links_that_lead_out_are_named(tmp_path: Path, path: str, link: Link | None) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "file").touch()
    links = {"inside": "d", "top": ".", "absolute": "/etc/hostname", "d/up": "../../x", "d/chain": "up", "away": "/etc"}
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    assert leaving_link(tmp_path, path) == link
