-- What a driver has mounted for whom. A row is written before the driver is asked to mount and deleted after it has
-- unmounted, so that a crash between leaves a mount that the next start knows of. A mount does not outlive its boot.
CREATE TABLE volume_mounts (
    volume TEXT NOT NULL REFERENCES volumes (name),
    reference TEXT NOT NULL,            -- the container that it was mounted for
    mountpoint TEXT NOT NULL,           -- empty until the driver has said where
    boot TEXT NOT NULL,                 -- /proc/sys/kernel/random/boot_id
    PRIMARY KEY (volume, reference)
) STRICT;
