"""Users and groups of an image."""

from __future__ import annotations

from pathlib import Path

import pytest

from tare.errors import InvalidArgument
from tare.runtime.users import MAX_FILE, UserIds, resolve_user

PASSWD = "root:x:0:0:root:/root:/bin/sh\n# comment\n\nbroken\nweb:x:33:34:w:/var/www:/bin/sh\n77:x:99:99::/odd:\n"
GROUP = "root:x:0:\nwww:x:34:\ntape:x:26:web,other\naudio:x:29:web\nbroken\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return tmp_path


@pytest.mark.parametrize(
    ("user", "add", "expected"),
    [
        ("", (), UserIds(uid=0, gid=0, groups=(0,), home="/root")),
        ("web", (), UserIds(uid=33, gid=34, groups=(34, 26, 29), home="/var/www")),
        ("33", (), UserIds(uid=33, gid=34, groups=(34, 26, 29), home="/var/www")),
        ("web:tape", (), UserIds(uid=33, gid=26, groups=(26,), home="/var/www")),
        ("web:500", ("audio", "7"), UserIds(uid=33, gid=500, groups=(500, 29, 7), home="/var/www")),
        ("1234", (), UserIds(uid=1234, gid=0, groups=(0,), home="/")),
        ("1234:5678", (), UserIds(uid=1234, gid=5678, groups=(5678,), home="/")),
        (":tape", (), UserIds(uid=0, gid=26, groups=(26,), home="/root")),
        ("77", (), UserIds(uid=99, gid=99, groups=(99,), home="/odd")),
    ],
)
def test_users_are_resolved_as_in_docker(root: Path, user: str, add: tuple[str, ...], expected: UserIds) -> None:
    assert resolve_user(root, user, add) == expected


@pytest.mark.parametrize(
    ("user", "add", "words"),
    [
        ("nobody", (), "unable to find user nobody: no matching entries in passwd file"),
        ("web:none", (), "unable to find group none: no matching entries in group file"),
        ("web", ("none",), "unable to find group none: no matching entries in group file"),
        ("2147483648", (), "uids and gids must be in range 0-2147483647"),
        ("-1", (), "must be in range"),
    ],
)
def test_unknown_users_are_named(root: Path, user: str, add: tuple[str, ...], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        resolve_user(root, user, add)


def test_an_image_without_files_knows_numbers_only(tmp_path: Path) -> None:
    assert resolve_user(tmp_path, "5:6") == UserIds(uid=5, gid=6, groups=(6,), home="/")
    with pytest.raises(InvalidArgument, match="unable to find user root"):
        resolve_user(tmp_path, "root")


def test_a_link_does_not_lead_out_of_the_image(tmp_path: Path, root: Path) -> None:
    image = tmp_path / "image"
    (image / "etc").mkdir(parents=True)
    (image / "etc/passwd").symlink_to(root / "etc/passwd")
    with pytest.raises(InvalidArgument, match="unable to find user web"):
        resolve_user(image, "web")


def test_a_huge_file_is_refused(root: Path) -> None:
    with (root / "etc/passwd").open("ab") as stream:
        stream.truncate(MAX_FILE + 1)
    with pytest.raises(InvalidArgument, match="/etc/passwd in the image is larger than"):
        resolve_user(root, "web")
