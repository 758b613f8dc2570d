-- Files that were announced in a group, each by whom: the newest announcement of each.
CREATE TABLE offers (
    room     INTEGER NOT NULL,
    hash     BLOB NOT NULL CHECK (length(hash) = 32),
    source   BLOB NOT NULL CHECK (length(source) = 32),
    at       INTEGER NOT NULL,
    kept_ms  INTEGER NOT NULL,
    nick     TEXT NOT NULL,
    name     TEXT NOT NULL,
    size     INTEGER NOT NULL,
    manifest INTEGER,
    PRIMARY KEY (room, hash, source)
) STRICT, WITHOUT ROWID;

-- Files that this node serves, or has begun to fetch, and where they lie.
CREATE TABLE held (
    hash     BLOB PRIMARY KEY CHECK (length(hash) = 32),
    path     BLOB NOT NULL,
    size     INTEGER NOT NULL,
    manifest INTEGER,
    whole    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Others who had all of a file, and when that was known last.
CREATE TABLE holders (
    hash    BLOB NOT NULL CHECK (length(hash) = 32),
    node    BLOB NOT NULL CHECK (length(node) = 32),
    seen_ms INTEGER NOT NULL,
    PRIMARY KEY (hash, node)
) STRICT, WITHOUT ROWID;
