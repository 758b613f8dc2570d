-- Where a group has a total order: how far that is here.
CREATE TABLE orders (
    room INTEGER PRIMARY KEY,
    next INTEGER NOT NULL
) STRICT;

-- The records that ended its epochs, in their order: from them follows who is in the committee.
CREATE TABLE ended (
    room   INTEGER NOT NULL,
    number INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (room, number)
) STRICT, WITHOUT ROWID;

-- Of each source, below which batch of which life all have a place.
CREATE TABLE marks (
    room   INTEGER NOT NULL,
    source BLOB NOT NULL CHECK (length(source) = 32),
    life   INTEGER NOT NULL,
    next   INTEGER NOT NULL,
    PRIMARY KEY (room, source)
) STRICT, WITHOUT ROWID;

-- Which batch has which place: that of its first message. (Not beside the batch: its row would be written
-- again, payload and all.)
CREATE TABLE places (
    room  INTEGER NOT NULL,
    place INTEGER NOT NULL,
    at    INTEGER NOT NULL UNIQUE,
    PRIMARY KEY (room, place)
) STRICT, WITHOUT ROWID;

-- Batches that wait for a place, in the order in which they were delivered; they stand at `at`, which is
-- below zero for one that was gathered before it was delivered.
CREATE TABLE unsettled (
    number INTEGER PRIMARY KEY,
    room   INTEGER NOT NULL,
    at     INTEGER NOT NULL UNIQUE
) STRICT;
CREATE INDEX unsettled_of_room ON unsettled (room, number);

-- What this node has promised as a member of the committee, in the last epoch in which it was in that; and the
-- committee's log, as far as it is kept: from place `compacted` on.
CREATE TABLE vows (
    room      INTEGER PRIMARY KEY,
    epoch     INTEGER NOT NULL,
    vows      BLOB NOT NULL,
    compacted INTEGER NOT NULL
) STRICT;
CREATE TABLE accepted (
    room  INTEGER NOT NULL,
    place INTEGER NOT NULL,
    entry BLOB NOT NULL,
    PRIMARY KEY (room, place)
) STRICT, WITHOUT ROWID;
