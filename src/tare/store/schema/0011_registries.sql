-- The digests by which registries know an image: `repository@digest`. Behind an index several images, one of each platform,
-- have the same one.
CREATE TABLE image_digests (
    repository TEXT NOT NULL,                           -- canonical, domain/path
    digest TEXT NOT NULL REFERENCES blobs (digest),     -- of the manifest, or of the index that names it
    image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    manifest TEXT NOT NULL REFERENCES blobs (digest),   -- the image's own manifest
    updated REAL NOT NULL,
    PRIMARY KEY (repository, digest, image)
) STRICT;
CREATE INDEX image_digests_by_image ON image_digests (image);
CREATE INDEX image_digests_by_digest ON image_digests (digest);
CREATE INDEX image_digests_by_manifest ON image_digests (manifest);

-- In which forms registries have a layer. The blobs are not kept here.
CREATE TABLE layer_blobs (
    diff_id TEXT NOT NULL REFERENCES layers (diff_id) ON DELETE CASCADE,
    repository TEXT NOT NULL,           -- canonical, domain/path
    digest TEXT NOT NULL,               -- of the bytes as they are transferred
    size INTEGER NOT NULL,
    media_type TEXT NOT NULL,
    seen REAL NOT NULL,
    PRIMARY KEY (diff_id, repository, digest)
) STRICT;
CREATE INDEX layer_blobs_by_digest ON layer_blobs (digest);
