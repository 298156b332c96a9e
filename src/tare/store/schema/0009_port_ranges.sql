-- A published range is one row: `count` ports from host_port and container_port on. `sources` are the CIDR blocks, with
-- spaces between them, that alone may reach it; empty for everybody.
ALTER TABLE published_ports ADD COLUMN count INTEGER NOT NULL DEFAULT 1;
ALTER TABLE published_ports ADD COLUMN sources TEXT NOT NULL DEFAULT '';
