"""The space that is kept for removals."""

from __future__ import annotations

from pathlib import Path

from tare.store.reserve import RESERVE_BYTES, Reserve


def test_the_space_is_given_up_once_and_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "reserve"
    reserve = Reserve(path)
    assert not reserve.release()
    for _ in range(2):
        reserve.regain()
        assert path.stat().st_blocks * 512 >= RESERVE_BYTES
        assert (reserve.release(), path.exists(), reserve.release()) == (True, False, False)


def test_the_space_of_an_earlier_engine_is_given_up_too(tmp_path: Path) -> None:
    Reserve(tmp_path / "reserve").regain()
    assert Reserve(tmp_path / "reserve").release()


def test_no_space_to_take_back_is_no_error(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "missing" / "reserve")
    reserve.regain()
    assert not reserve.release()
