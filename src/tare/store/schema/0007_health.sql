-- The last results of a container's health checks; status and streak are in the container's document.
CREATE TABLE container_health (
    container TEXT PRIMARY KEY REFERENCES containers (id) ON DELETE CASCADE,
    log TEXT NOT NULL                   -- JSON array of engine.health_records.CheckResult, oldest first
) STRICT;

-- The boot of the machine in which the engine ran last (random/boot_id, random(4)); at most one row.
CREATE TABLE boots (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    boot TEXT NOT NULL
) STRICT;
