"""Filters of the build cache."""

from __future__ import annotations

import pytest

from tare.build.cache_ledger import CacheRecord
from tare.engine.build_cache import read_filters
from tare.errors import InvalidArgument

RECORD = CacheRecord(
    id="0f3a", type="regular", description="RUN make all", size=1, created=1.0, last_used=2.0, parents=("aa", "bb")
)


@pytest.mark.parametrize(
    ("filters", "fits"),
    [
        ({}, True),
        ({"id": ["0f"]}, True),
        ({"id": ["^3a"]}, False),
        ({"type": ["regular"]}, True),
        ({"type": ["reg"]}, False),
        ({"type!": ["regular"]}, False),
        ({"description~": ["make"]}, True),
        ({"description": ["make"]}, False),
        ({"parent": ["bb"]}, True),
        ({"parent": ["b"]}, False),
        ({"inuse": []}, False),
        ({"inuse": ["false"]}, True),
        ({"shared": []}, False),
        ({"private": []}, True),
        ({"mutable": []}, False),
        ({"immutable": []}, True),
        ({"label": ["a=b"]}, True),
        ({"type": ["regular"], "id": ["x"]}, False),
    ],
)
def test_which_records_fit(filters: dict[str, list[str]], fits: bool) -> None:
    matches, before = read_filters(filters, 1000.0)
    assert (matches(RECORD), before) == (fits, None)


@pytest.mark.parametrize(
    ("value", "moment"), [("10m", 400.0), ("900", 900.0), ("1970-01-01T00:01:00Z", 60.0), ("0", 1000.0)]
)
@pytest.mark.parametrize("name", ["until", "unused-for"])
def test_ages(name: str, value: str, moment: float) -> None:
    assert read_filters({name: [value]}, 1000.0)[1] == moment


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"colour": ["red"]}, "invalid filter 'colour'"),
        ({"until": ["soon"]}, "'soon'"),
        ({"until": ["1h"], "unused-for": ["2h"]}, "conflicting filters"),
        ({"id": ["a", "b"]}, "expects only one value"),
        ({"id": ["("]}, "no regular expression"),
        ({"shared!": []}, "invalid filter 'shared!'"),
        ({"parent~": ["a"]}, "invalid filter 'parent~'"),
    ],
)
def test_filters_that_mean_nothing(filters: dict[str, list[str]], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words.replace("(", r"\(")):
        read_filters(filters, 1000.0)
