from __future__ import annotations

import pytest

from tare.engine.id_maps import exchange, parse_idmap
from tare.errors import InvalidArgument
from tare.kernel.idmap import LAST_ID, IdMap


def test_grammar() -> None:
    assert parse_idmap("") is None
    whole = (IdMap(0, 0, LAST_ID + 1),)
    assert parse_idmap("uids=0-1-10#10-11-10;gids=0-100-10") == (
        (IdMap(0, 1, 10), IdMap(10, 11, 10)),
        (IdMap(0, 100, 10),),
    )
    assert parse_idmap("gids=1-2-3") == (whole, (IdMap(1, 2, 3),))


@pytest.mark.parametrize(
    "text", ["x", "uids", "uids=", "uids=1-2", "uids=1-2-3;uids=1-2-3", "uids=0-0-0", "@uids=0-1-1"]
)
def test_grammar_refuses(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid idmap"):
        parse_idmap(text)


@pytest.mark.parametrize(("stored", "seen"), [(0, 0), (1000, 0), (0, 1000), (5, 6), (LAST_ID, 0), (7, LAST_ID)])
def test_an_exchange_loses_no_id(stored: int, seen: int) -> None:
    maps = exchange(stored, seen)

    def look(number: int) -> int:
        return next(one.seen + number - one.stored for one in maps if 0 <= number - one.stored < one.count)

    assert (look(stored), look(seen)) == (seen, stored)
    assert sum(one.count for one in maps) == LAST_ID + 1
    for other in {1, 2, 4, 8, 999, 1001, LAST_ID - 1} - {stored, seen}:
        assert look(other) == other
