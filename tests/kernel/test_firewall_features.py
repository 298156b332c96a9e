"""What the kernel has of nftables is found by trying."""

from __future__ import annotations

import subprocess

import pytest

from tare.network.firewall_features import FEATURES, missing_features

pytestmark = pytest.mark.root


def test_this_kernel_has_what_the_rules_use_and_the_trial_leaves_nothing() -> None:
    assert missing_features() == []
    tables = subprocess.run(["nft", "list", "tables"], check=True, capture_output=True, text=True).stdout
    assert "probe" not in tables


def test_what_is_not_there_is_named() -> None:
    # An expression that no kernel has: libnftables sends it only as far as its own parser, which refuses it too.
    absent = {"the lot (CONFIG_LOT)": "chain c { type filter hook forward priority 0; teleport; }"}
    assert missing_features({**FEATURES, **absent}) == ["the lot (CONFIG_LOT)"]
    unhooked = {"filtering of routes (CONFIG_NONE)": "chain c { type route hook forward priority 0; }"}
    assert missing_features({**unhooked, **FEATURES}) == ["filtering of routes (CONFIG_NONE)"]
