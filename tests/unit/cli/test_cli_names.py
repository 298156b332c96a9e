"""Names that images shall get, as commands take them."""

from __future__ import annotations

import re

import pytest

from tare.cli.pulling import split_name
from tare.errors import InvalidArgument

DIGEST = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("app", ("app", "latest")),
        ("docker.io/library/app:1", ("app", "1")),
        ("localhost:5000/team/app:1", ("localhost:5000/team/app", "1")),
    ],
)
def test_a_name_has_a_repository_and_a_tag(name: str, parts: tuple[str, str]) -> None:
    assert split_name(name) == parts


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (f"app@{DIGEST}", "^refusing to create a tag with a digest reference$"),
        (f"app:1@{DIGEST}", "^refusing to create a tag"),
        ("0" * 64, "cannot specify 64-byte hexadecimal strings$"),
        ("BAD", "must be lowercase$"),
        ("a:b:c", "^invalid reference format$"),
    ],
)
def test_what_no_image_can_be_called(name: str, words: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        split_name(name)
    assert re.search(words, raised.value.message)
