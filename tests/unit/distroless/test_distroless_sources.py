from __future__ import annotations

from pathlib import Path

import pytest

from tare.distroless.control import parse_paragraphs, render_paragraph
from tare.distroless.settings import RELEASES, ArchiveSettings, ArchiveSource
from tare.distroless.sources import archive_sources, dates_matter
from tare.errors import DataCorrupt, Unavailable

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
BOOKWORM = RELEASES[0]


def write(directory: Path, name: str, text: str) -> ArchiveSettings:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return ArchiveSettings(apt_directory=directory, keyring=KEYRING)


def test_deb822(tmp_path: Path) -> None:
    settings = write(
        tmp_path,
        "sources.list.d/debian.sources",
        f"Types: deb\n# a note\nURIs: http://a.example/debian/\nSuites: bookworm bookworm-updates sid\n"
        f"Components: main contrib\nSigned-By: {KEYRING}\n\n"
        f"Types: deb-src\nURIs: http://a.example/debian\nSuites: bookworm\nComponents: main\n\n"
        f"Types: deb\nEnabled: no\nURIs: http://b.example/debian\nSuites: bookworm\nComponents: main\n",
    )
    assert archive_sources(settings, BOOKWORM) == (
        ArchiveSource("http://a.example/debian", "bookworm", ("contrib", "main")),
        ArchiveSource("http://a.example/debian", "bookworm-updates", ("contrib", "main")),
    )


def test_one_line(tmp_path: Path) -> None:
    settings = write(
        tmp_path,
        "sources.list",
        "# deb http://no.example/debian bookworm main\n"
        f"deb [arch=amd64 signed-by={KEYRING}] http://user:secret@a.example/debian bookworm main # note\n"
        "deb-src http://a.example/debian bookworm main\n"
        "deb http://a.example/debian-security bookworm-security main\n",
    )
    assert archive_sources(settings, BOOKWORM) == (
        ArchiveSource("http://a.example/debian", "bookworm", ("main",), True),
        ArchiveSource("http://a.example/debian-security", "bookworm-security", ("main",), False),
    )


def test_other_vendors_and_suffixes_are_ignored(tmp_path: Path) -> None:
    write(tmp_path, "sources.list.d/x.sources.disabled", "Types: deb\nURIs: http://x/debian\nSuites: bookworm\n")
    settings = write(
        tmp_path,
        "sources.list.d/vendor.sources",
        "Types: deb\nURIs: https://vendor.example\nSuites: bookworm\nComponents: main\n"
        "Signed-By: /usr/share/keyrings/vendor.gpg\n",
    )
    write(
        tmp_path,
        "sources.list.d/inline.sources",
        "Types: deb\nURIs: https://inline.example\nSuites: bookworm\nComponents: main\nSigned-By:\n"
        " -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n",
    )
    with pytest.raises(Unavailable, match=r"no apt source for Debian 12.*archive.mirrors") as caught:
        archive_sources(settings, BOOKWORM)
    assert caught.value.code == "no-archive"


def test_settings_override(tmp_path: Path) -> None:
    settings = ArchiveSettings(
        apt_directory=tmp_path, mirrors=("http://m.example/debian/", "http://m.example/debian-security")
    )
    assert [str(source) for source in archive_sources(settings, BOOKWORM)] == [
        "http://m.example/debian bookworm",
        "http://m.example/debian bookworm-updates",
        "http://m.example/debian-security bookworm-security",
    ]


def test_control_round_trip() -> None:
    text = "Package: a\nDescription: short\n long\n .\nConffiles:\n /etc/a 0\n"
    (paragraph,) = parse_paragraphs(text)
    assert paragraph["Conffiles"] == "\n /etc/a 0"
    assert render_paragraph(paragraph) == text


@pytest.mark.parametrize("text", [" starts with a continuation", "no colon here", "two words: x"])
def test_control_refuses(text: str) -> None:
    with pytest.raises(DataCorrupt, match=r"line 1"):
        parse_paragraphs(text)


@pytest.mark.parametrize(
    ("text", "matter"),
    [
        ("", True),
        ('Acquire::Check-Valid-Until "false";\n', False),
        ('Acquire { Retries "3"; Check-Valid-Until no; };\n', False),
        ('// about dates\nAcquire::Check-Valid-Until "false";\n', False),
        ('/* Acquire::Check-Valid-Until "false";\n */\n', True),
        ('// Acquire::Check-Valid-Until "false";\n', True),
        ('Acquire::Check-Valid-Until "false";\nAcquire::Check-Valid-Until "true";\n', True),
    ],
)
def test_dates_matter_as_they_do_to_the_hosts_apt(tmp_path: Path, text: str, matter: bool) -> None:
    (tmp_path / "apt.conf.d").mkdir()
    (tmp_path / "apt.conf.d" / "99local").write_text(text)
    assert dates_matter(ArchiveSettings(apt_directory=tmp_path)) is matter
    assert dates_matter(ArchiveSettings(apt_directory=tmp_path, check_dates=not matter)) is not matter
