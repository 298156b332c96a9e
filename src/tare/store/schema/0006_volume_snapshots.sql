-- What a volume held at a moment: directory volumes/.snapshots/<directory>/data. A volume with snapshots cannot be removed.
-- While a restore is about to swap the volume's content with this directory, pending_inode has the inode number of the
-- new content: where that is found tells the next start whether the swap has happened.
CREATE TABLE volume_snapshots (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    volume TEXT NOT NULL REFERENCES volumes (name),
    name TEXT NOT NULL,
    directory TEXT NOT NULL UNIQUE,
    created REAL NOT NULL,
    automatic INTEGER NOT NULL,         -- 1: what a restore has replaced
    method TEXT NOT NULL,               -- reflink, copy, moved
    size INTEGER NOT NULL,              -- bytes on disk as du counts them; reflinked extents are shared with the volume
    frozen REAL NOT NULL,               -- seconds for which containers stood still
    pending_inode INTEGER,
    UNIQUE (volume, name)
) STRICT;

-- Not a column of volumes with a default, but a reference without cascade: no statement can delete a protected volume.
CREATE TABLE volume_protections (
    volume TEXT PRIMARY KEY REFERENCES volumes (name),
    since REAL NOT NULL
) STRICT;

-- Control groups that are frozen for a copy right now; whatever is in here when an engine starts is thawed.
CREATE TABLE frozen_cgroups (
    directory TEXT PRIMARY KEY,
    since REAL NOT NULL
) STRICT;
