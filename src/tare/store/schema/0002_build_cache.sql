-- How often a result was used, the first time included.
ALTER TABLE build_cache ADD COLUMN uses INTEGER NOT NULL DEFAULT 1;
CREATE INDEX build_cache_by_snapshot ON build_cache (snapshot);
CREATE INDEX build_cache_by_layer ON build_cache (diff_id);
CREATE INDEX snapshots_by_layer ON snapshots (diff_id);

-- Directories of RUN --mount=type=cache: cache/mounts/<name>
CREATE TABLE cache_mounts (
    name TEXT PRIMARY KEY,
    id TEXT NOT NULL,                   -- what Dockerfiles call it
    created REAL NOT NULL,
    last_used REAL NOT NULL,
    uses INTEGER NOT NULL
) STRICT;
