-- Legacy links (`--link` on the network bridge): under which alias a container knows another one. The other one may be
-- gone: the link stays, as in Docker, and keeps its owner from starting.
CREATE TABLE container_links (
    container TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE,
    alias TEXT NOT NULL,
    target TEXT NOT NULL,               -- id of the other container
    target_name TEXT NOT NULL,          -- its name, the last one when it is gone
    PRIMARY KEY (container, alias)
) STRICT;
CREATE INDEX container_links_by_target ON container_links (target);
CREATE TRIGGER container_links_follow_names AFTER UPDATE OF name ON containers WHEN old.name <> new.name
BEGIN
    UPDATE container_links SET target_name = new.name WHERE target = new.id;
END;
