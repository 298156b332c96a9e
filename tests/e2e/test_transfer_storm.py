"""A short storm (see ``tests/transfer_storm.py``; ``make transfer-storm`` has the long one)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine_process import EngineProcess
from transfer_storm import KINDS, VICTIMS, Kind, Storm, Victim, storm

pytestmark = [pytest.mark.e2e, pytest.mark.root]

SEED = 11


@pytest.fixture(scope="module")
def weather() -> Iterator[Storm]:
    engine = EngineProcess.make()
    try:
        with storm(engine, SEED) as made:
            yield made
    finally:
        engine.stop()


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_transfer_that_was_struck_is_taken_up_again(weather: Storm, kind: Kind, victim: Victim) -> None:
    weather.round(kind, victim)
