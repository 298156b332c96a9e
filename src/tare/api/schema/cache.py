"""The build cache as the API takes and gives it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from multidict import MultiMapping

from tare.api import params
from tare.api.wording import format_time
from tare.engine.build_cache import PruneCache
from tare.errors import InvalidArgument

if TYPE_CHECKING:
    from tare.build.cache_gc import Pruned
    from tare.build.cache_ledger import CacheRecord


def render_record(record: CacheRecord) -> dict[str, Any]:
    """BuildCache."""
    return {
        "ID": record.id,
        "Parents": list(record.parents) or None,
        "Type": record.type,
        "Description": record.description,
        "InUse": record.in_use,
        "Shared": record.shared,
        "Size": record.size,
        "CreatedAt": format_time(record.created),
        "LastUsedAt": format_time(record.last_used),
        "UsageCount": record.uses,
    }


def read_prune(query: MultiMapping[str]) -> PruneCache:
    """The query of ``POST /build/prune``; ``keep-storage`` is the old name of ``reserved-space``."""
    sizes = {}
    for name in ("reserved-space", "keep-storage", "max-used-space", "min-free-space"):
        sizes[name] = params.number(query, name) or 0
        if sizes[name] < 0:
            raise InvalidArgument(f"query parameter {name}: {sizes[name]} is negative")
    return PruneCache(
        everything=params.flag(query, "all"),
        reserved=sizes["reserved-space"] or sizes["keep-storage"],
        max_used=sizes["max-used-space"],
        min_free=sizes["min-free-space"],
        filters=params.filters(query),
    )


def render_pruned(pruned: Pruned) -> dict[str, Any]:
    """BuildPruneResponse."""
    return {"CachesDeleted": list(pruned.ids), "SpaceReclaimed": pruned.size}
