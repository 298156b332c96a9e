"""The resolver and the host's apt choose the same packages; ``make parity`` asks for more of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from parity import compare

pytestmark = [pytest.mark.network, pytest.mark.timeout(120)]


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="no apt on this host")
def test_resolver_agrees_with_apt(tmp_path: Path) -> None:
    outcome = compare(25, 1, tmp_path, small=True)
    assert outcome.different == {}
    assert (outcome.tried, outcome.refused) == (25, [])
