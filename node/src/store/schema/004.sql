-- Who was removed from a group: the founder's signed record, the last about each.
CREATE TABLE removals (
    room   INTEGER NOT NULL,
    victim BLOB NOT NULL CHECK (length(victim) = 32),
    record BLOB NOT NULL,
    PRIMARY KEY (room, victim)
) STRICT, WITHOUT ROWID;

-- What this node's next batch is to name as its causes: node, life and seq of each, 48 bytes. Null if that
-- is not known.
ALTER TABLE rooms ADD COLUMN causes BLOB;
