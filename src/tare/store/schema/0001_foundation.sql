-- Every object and every reference between objects. Times are seconds since the epoch (REAL) unless a document says else.
CREATE TABLE blobs (
    digest TEXT PRIMARY KEY,            -- sha256:<hex>, file blobs/sha256/<hex>
    size INTEGER NOT NULL,
    media_type TEXT NOT NULL,
    created REAL NOT NULL
) STRICT;

CREATE TABLE layers (
    diff_id TEXT PRIMARY KEY,           -- sha256 of the uncompressed tar, file layers/<hex>.tar
    size INTEGER NOT NULL,              -- bytes of the tar
    compressed_size INTEGER,            -- bytes as gzip, NULL until somebody asked
    created REAL NOT NULL
) STRICT;

-- kind layer: an unpacked (later: indexed) layer tar. committed: a frozen upper directory. active: a writable one.
CREATE TABLE snapshots (
    id INTEGER PRIMARY KEY AUTOINCREMENT,   -- directory snapshots/<id>; never reused
    key TEXT NOT NULL UNIQUE,               -- layer: the diff_id; committed and active: chosen by the caller
    kind TEXT NOT NULL CHECK (kind IN ('layer', 'committed', 'active')),
    diff_id TEXT REFERENCES layers (diff_id),
    size INTEGER NOT NULL DEFAULT 0,        -- bytes on disk when frozen
    created REAL NOT NULL
) STRICT;

CREATE TABLE snapshot_lowers (
    snapshot INTEGER NOT NULL REFERENCES snapshots (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,              -- 0 is the bottom
    lower INTEGER NOT NULL REFERENCES snapshots (id),
    PRIMARY KEY (snapshot, position)
) STRICT;
CREATE INDEX snapshot_lowers_by_lower ON snapshot_lowers (lower);

CREATE TABLE images (
    id TEXT PRIMARY KEY REFERENCES blobs (digest),   -- digest of the configuration
    created REAL NOT NULL,
    size INTEGER NOT NULL                            -- sum of the layer tars
) STRICT;

CREATE TABLE image_layers (
    image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    diff_id TEXT NOT NULL REFERENCES layers (diff_id),
    PRIMARY KEY (image, position)
) STRICT;
CREATE INDEX image_layers_by_layer ON image_layers (diff_id);

CREATE TABLE tags (
    reference TEXT PRIMARY KEY,         -- canonical, domain/path:tag
    image TEXT NOT NULL REFERENCES images (id),
    updated REAL NOT NULL
) STRICT;
CREATE INDEX tags_by_image ON tags (image);

CREATE TABLE volumes (
    name TEXT PRIMARY KEY,
    driver TEXT NOT NULL,
    created REAL NOT NULL,
    anonymous INTEGER NOT NULL,
    options TEXT NOT NULL,              -- JSON object
    labels TEXT NOT NULL                -- JSON object
) STRICT;

CREATE TABLE containers (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    image TEXT NOT NULL REFERENCES images (id),
    status TEXT NOT NULL,
    created REAL NOT NULL,
    document TEXT NOT NULL              -- JSON of model.container.Container
) STRICT;
CREATE INDEX containers_by_image ON containers (image);

CREATE TABLE container_volumes (
    container TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE,
    volume TEXT NOT NULL REFERENCES volumes (name),
    destination TEXT NOT NULL,
    PRIMARY KEY (container, destination)
) STRICT;
CREATE INDEX container_volumes_by_volume ON container_volumes (volume);

CREATE TABLE networks (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    driver TEXT NOT NULL,
    created REAL NOT NULL,
    document TEXT NOT NULL              -- JSON of network.model.Network
) STRICT;

CREATE TABLE endpoints (
    id TEXT PRIMARY KEY,
    network TEXT NOT NULL REFERENCES networks (id),
    container TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE,
    document TEXT NOT NULL,             -- JSON of network.model.Endpoint
    UNIQUE (network, container)
) STRICT;
CREATE INDEX endpoints_by_container ON endpoints (container);

CREATE TABLE addresses (
    network TEXT NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    address TEXT NOT NULL,
    endpoint TEXT REFERENCES endpoints (id) ON DELETE CASCADE,   -- NULL: the gateway or a reserved address
    PRIMARY KEY (network, address)
) STRICT;

CREATE TABLE published_ports (
    protocol TEXT NOT NULL,             -- tcp, udp, sctp
    host_address TEXT NOT NULL,         -- 0.0.0.0 for all
    host_port INTEGER NOT NULL,
    endpoint TEXT NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
    container_port INTEGER NOT NULL,
    PRIMARY KEY (protocol, host_address, host_port)
) STRICT;

-- A build step's result. snapshot: result of RUN and merges; diff_id: result of COPY and ADD.
CREATE TABLE build_cache (
    key TEXT PRIMARY KEY,               -- digest over definition and inputs
    kind TEXT NOT NULL,                 -- definition, content
    result TEXT NOT NULL,               -- JSON: what the step made, see build.cache.records
    fields TEXT NOT NULL,               -- JSON: what went into the key, to explain a miss
    snapshot INTEGER REFERENCES snapshots (id) ON DELETE CASCADE,
    diff_id TEXT REFERENCES layers (diff_id) ON DELETE CASCADE,
    created REAL NOT NULL,
    last_used REAL NOT NULL
) STRICT;

-- A lease keeps what is in flight from being collected. A lease of a dead engine is dropped at the next start.
CREATE TABLE leases (
    id TEXT PRIMARY KEY,
    created REAL NOT NULL
) STRICT;

CREATE TABLE lease_references (
    lease TEXT NOT NULL REFERENCES leases (id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('blob', 'layer', 'snapshot', 'image')),
    object TEXT NOT NULL,
    PRIMARY KEY (lease, kind, object)
) STRICT;

-- Downloaded Debian packages: cache/debs/<sha256>.deb
CREATE TABLE debs (
    sha256 TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    architecture TEXT NOT NULL,
    size INTEGER NOT NULL,
    last_used REAL NOT NULL
) STRICT;
