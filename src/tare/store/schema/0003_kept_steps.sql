-- Build steps that failed and whose file system is kept. id: the hex digits of the step's cache key.
CREATE TABLE kept_steps (
    id TEXT PRIMARY KEY,
    snapshot INTEGER NOT NULL UNIQUE REFERENCES snapshots (id),
    created REAL NOT NULL,
    document TEXT NOT NULL              -- JSON of build.kept.KeptStep
) STRICT;

-- What the mounts of a kept step show; kept as long as the step is.
CREATE TABLE kept_step_parts (
    step TEXT NOT NULL REFERENCES kept_steps (id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('layer', 'snapshot')),
    object TEXT NOT NULL,               -- layer: the diff_id; snapshot: its key
    PRIMARY KEY (step, kind, object)
) STRICT;
