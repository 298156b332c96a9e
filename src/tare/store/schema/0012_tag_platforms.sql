-- A tag may name one image for each of several platforms.
CREATE TABLE platform_tags (
    reference TEXT NOT NULL,            -- canonical, domain/path:tag
    image TEXT NOT NULL REFERENCES images (id),
    updated REAL NOT NULL,
    PRIMARY KEY (reference, image)
) STRICT;
INSERT INTO platform_tags SELECT reference, image, updated FROM tags;
DROP TABLE tags;
ALTER TABLE platform_tags RENAME TO tags;
CREATE INDEX tags_by_image ON tags (image);
