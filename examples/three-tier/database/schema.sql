-- Runs once, at build time, by `mariadbd --bootstrap`, which starts without accounts: hence FLUSH PRIVILEGES first.
-- The account has no password and is locked until the start file opens it: no secret is part of the image.
FLUSH PRIVILEGES;

CREATE DATABASE notes CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;

CREATE TABLE notes.notes (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    text VARCHAR(1000) NOT NULL,
    created_at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)
) ENGINE = InnoDB;

CREATE USER 'notes'@'%' ACCOUNT LOCK;
GRANT SELECT, INSERT ON notes.* TO 'notes'@'%';
