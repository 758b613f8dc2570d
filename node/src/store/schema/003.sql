-- What was said before this node's time stands at places below zero. While it is still gathered
-- (`earlier`): up to which place of whose history it is here.
ALTER TABLE rooms ADD COLUMN earlier INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rooms ADD COLUMN earlier_from BLOB CHECK (length(earlier_from) = 32);
ALTER TABLE rooms ADD COLUMN earlier_at INTEGER;
