"""Rows of ``tare images``."""

from __future__ import annotations

import pytest

from tare.cli.images import image_rows

IMAGE = {
    "Id": "sha256:" + "ab" * 32,
    "Created": 0,
    "Size": 5,
    "RepoTags": ["r.example/app:1", "r.example/app:2", "local:1"],
    "RepoDigests": ["r.example/app@sha256:a", "r.example/app@sha256:b", "other@sha256:c", "other@sha256:d"],
}


@pytest.mark.parametrize(
    ("digests", "rows"),
    [
        (False, ["r.example/app:1 <none>", "r.example/app:2 <none>", "local:1 <none>", "other:<none> <none>"]),
        (
            True,
            [
                "r.example/app:1 sha256:a", "r.example/app:1 sha256:b", "r.example/app:2 sha256:a",
                "r.example/app:2 sha256:b", "local:1 <none>", "other:<none> sha256:c", "other:<none> sha256:d",
            ],
        ),
    ],
)  # fmt: skip
def test_a_name_has_a_row_and_with_digests_one_for_each(digests: bool, rows: list[str]) -> None:
    found = image_rows(IMAGE, 0.0, full=True, digests=digests)
    assert [f"{row['Repository']}:{row['Tag']} {row['Digest']}" for row in found] == rows


def test_image_without_a_name() -> None:
    (row,) = image_rows({**IMAGE, "RepoTags": [], "RepoDigests": None}, 0.0, full=False, digests=True)
    assert (row["Repository"], row["Tag"], row["Digest"], row["ID"]) == ("<none>", "<none>", "<none>", "ab" * 6)
