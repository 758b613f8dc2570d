-- What a node remembers of itself: one row.
CREATE TABLE node (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    nick       TEXT,
    tcp_port   INTEGER,
    quic_port  INTEGER,
    started_ms INTEGER NOT NULL
) STRICT;

-- Groups that the node is in until it leaves; `label` is what each is called here.
CREATE TABLE groups (
    id         BLOB PRIMARY KEY CHECK (length(id) = 32),
    label      TEXT NOT NULL UNIQUE,
    descriptor BLOB NOT NULL,
    joined_ms  INTEGER NOT NULL
) STRICT;

-- Members of those groups and where they can be reached: a JSON array of multiaddrs, as a
-- ticket or they themselves told. The lower the rank, the more surely.
CREATE TABLE members (
    group_id  BLOB NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    node      BLOB NOT NULL CHECK (length(node) = 32),
    rank      INTEGER NOT NULL,
    addresses TEXT NOT NULL,
    PRIMARY KEY (group_id, node)
) STRICT, WITHOUT ROWID;

-- The highest life used in each group; and where it ended, if it ended in good order. Kept
-- when a group is left: a life is never used twice.
CREATE TABLE lives (
    group_id   BLOB PRIMARY KEY CHECK (length(group_id) = 32),
    life       INTEGER NOT NULL,
    end_seq    INTEGER,
    end_digest BLOB,
    CHECK ((end_seq IS NULL) = (end_digest IS NULL))
) STRICT;

-- Nodes that were connected, where, and when last.
CREATE TABLE peers (
    node      BLOB PRIMARY KEY CHECK (length(node) = 32),
    addresses TEXT NOT NULL,
    seen_ms   INTEGER NOT NULL
) STRICT;
