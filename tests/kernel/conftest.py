"""Fixtures of the kernel tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from build_bench import Bench
from build_parts import ChrootExecutor, LocalSources, make_base

from tare.build.builder import Builder
from tare.store.store import Store


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    store = await Store.open(tmp_path / "data")
    roots = tmp_path / "roots"
    roots.mkdir()
    context = tmp_path / "context"
    context.mkdir()
    executor, sources = ChrootExecutor(store, roots), LocalSources(store)
    await make_base(store)
    made = Bench(store, executor, sources, Builder(store, executor, sources, tmp_path / "cache"), context, tmp_path)
    try:
        yield made
        await made.assert_nothing_left()
    finally:
        await made.builder.close()
        await store.close()
