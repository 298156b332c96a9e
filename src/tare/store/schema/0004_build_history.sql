-- The steps of each stage as the last build that went well had them: what a later build runs anew is explained with it.
CREATE TABLE build_history (
    project TEXT NOT NULL,              -- digest over the context's place and the Dockerfile's name
    stage TEXT NOT NULL,
    digest TEXT NOT NULL,               -- over the steps, to see whether anything changed
    steps TEXT NOT NULL,                -- JSON, see build.history
    built REAL NOT NULL,
    PRIMARY KEY (project, stage)
) STRICT;
