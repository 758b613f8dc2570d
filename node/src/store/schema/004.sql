-- Who was removed from a group: the founder's signed record, the last about each.
CREATE TABLE removals (
    room   INTEGER NOT NULL,
    victim BLOB NOT NULL CHECK (length(victim) = 32),
    record BLOB NOT NULL,
    PRIMARY KEY (room, victim)
) STRICT, WITHOUT ROWID;
