-- What a build knows of the layers of the image that it made: stages, instructions, lines. The last build counts.
CREATE TABLE image_origins (
    image TEXT PRIMARY KEY REFERENCES images (id) ON DELETE CASCADE,
    document TEXT NOT NULL              -- JSON of store.origins.ImageOrigin
) STRICT;
