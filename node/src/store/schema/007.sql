-- A file may be announced under several names. Where an announcement stands among its source's messages says whether a
-- word that ends it came after it. (Of those that were kept before that is not known: any word ends them.) `first` is
-- `at` as it was when the file was first announced so.
CREATE TABLE offers_by_name (
    room     INTEGER NOT NULL,
    hash     BLOB NOT NULL CHECK (length(hash) = 32),
    source   BLOB NOT NULL CHECK (length(source) = 32),
    name     TEXT NOT NULL,
    at       INTEGER NOT NULL,
    life     INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    n        INTEGER NOT NULL,
    kept_ms  INTEGER NOT NULL,
    nick     TEXT NOT NULL,
    size     INTEGER NOT NULL,
    manifest INTEGER,
    first    INTEGER NOT NULL,
    PRIMARY KEY (room, hash, source, name)
) STRICT, WITHOUT ROWID;
INSERT INTO offers_by_name (room, hash, source, name, at, life, seq, n, kept_ms, nick, size, manifest, first)
    SELECT room, hash, source, name, at, 0, 0, 0, kept_ms, nick, size, manifest, at FROM offers;
DROP TABLE offers;
ALTER TABLE offers_by_name RENAME TO offers;
CREATE INDEX offers_by_age ON offers (room, at);
CREATE INDEX offers_of_source ON offers (room, source, at, n);

-- An announcer's last word that a file is not to be had from it any more: 1 it has changed, 2 it was removed, 3 it was
-- withdrawn.
CREATE TABLE retractions (
    room   INTEGER NOT NULL,
    hash   BLOB NOT NULL CHECK (length(hash) = 32),
    source BLOB NOT NULL CHECK (length(source) = 32),
    at     INTEGER NOT NULL,
    life   INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    n      INTEGER NOT NULL,
    nick   TEXT NOT NULL,
    ending INTEGER NOT NULL,
    PRIMARY KEY (room, hash, source)
) STRICT, WITHOUT ROWID;
CREATE INDEX retractions_by_age ON retractions (room, at);
CREATE INDEX retractions_of_source ON retractions (room, source, at, n);

-- What lies here is not what it was: 1 it has changed, 2 it was removed.
ALTER TABLE held ADD COLUMN ending INTEGER;
