-- The history of a group: how much there is, and how much of it is to be kept at least. The group is
-- null once it is left: what is here goes bit by bit.
CREATE TABLE rooms (
    room         INTEGER PRIMARY KEY,
    group_id     BLOB UNIQUE CHECK (length(group_id) = 32),
    entered      INTEGER NOT NULL DEFAULT 0,
    retain_age_s INTEGER,
    retain_bytes INTEGER,
    retain_count INTEGER,
    messages     INTEGER NOT NULL DEFAULT 0,
    bytes        INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Of each source, below which life all is over.
CREATE TABLE sources (
    room   INTEGER NOT NULL,
    source BLOB NOT NULL CHECK (length(source) = 32),
    floor  INTEGER NOT NULL,
    PRIMARY KEY (room, source)
) STRICT, WITHOUT ROWID;

-- Lives, and how far this node is with each: `next` is the first batch that was not delivered, `head`
-- the digest of the one before it. This row outlives the batches. Of this node's own lives, others are
-- known to have what is below `taken`.
CREATE TABLE chains (
    chain  INTEGER PRIMARY KEY,
    room   INTEGER NOT NULL,
    source BLOB NOT NULL CHECK (length(source) = 32),
    life   INTEGER NOT NULL,
    next   INTEGER NOT NULL DEFAULT 0,
    head   BLOB CHECK (length(head) = 20),
    ending INTEGER,
    taken  INTEGER NOT NULL DEFAULT 0,
    UNIQUE (room, source, life)
) STRICT;

-- Batches as they travelled, in the order in which they were delivered here.
CREATE TABLE batches (
    at       INTEGER PRIMARY KEY,
    room     INTEGER NOT NULL,
    chain    INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    kept_ms  INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    bytes    INTEGER NOT NULL,
    nick     TEXT NOT NULL,
    body     BLOB NOT NULL,
    UNIQUE (chain, seq)
) STRICT;
CREATE INDEX batches_of_room ON batches (room, at);

-- The words of batches, by `at`, as sequences of three characters of folded text. Behind by what came
-- since.
CREATE VIRTUAL TABLE words USING fts5 (
    text, content = '', contentless_delete = 1, detail = none, tokenize = 'trigram case_sensitive 1'
);
CREATE TABLE indexed (
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    upto INTEGER NOT NULL
) STRICT;
INSERT INTO indexed VALUES (1, 0);
