-- Names and numbers of the store. Nothing here names a person: ids are keyed digests.
CREATE TABLE store (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID, STRICT;

-- One row a slice. `hit`: the newest accepted deletion whose bytes may still be on disk, or 0.
CREATE TABLE slices (
    number INTEGER PRIMARY KEY,
    records INTEGER NOT NULL,
    digest BLOB,
    generation INTEGER NOT NULL,
    hit INTEGER NOT NULL
) STRICT;

-- `copies`: the group of near-duplicates, which a deletion takes together. `dead`: the deletion that takes the record, until it is
-- erased.
CREATE TABLE records (
    id BLOB PRIMARY KEY,
    slice INTEGER NOT NULL,
    subject INTEGER,
    copies INTEGER,
    dead INTEGER
) WITHOUT ROWID, STRICT;
CREATE INDEX records_of_subject ON records (subject) WHERE subject IS NOT NULL;
CREATE INDEX records_with_copies ON records (copies) WHERE copies IS NOT NULL;
CREATE INDEX dead_records ON records (slice) WHERE dead IS NOT NULL;

CREATE TABLE subjects (number INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE) STRICT;

-- The stages that are there and may serve.
CREATE TABLE stages (key BLOB PRIMARY KEY) WITHOUT ROWID, STRICT;

-- `opening` is forgotten when everything is erased. The last three are indices of ledger entries.
CREATE TABLE requests (
    epoch INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    opening BLOB,
    named BLOB NOT NULL,
    effect TEXT NOT NULL,
    accepted INTEGER NOT NULL,
    effective INTEGER,
    erased INTEGER
) STRICT;

-- The ledger: entries, and the hashes of its Merkle tree by the numbers that the tree gives them.
CREATE TABLE entries (number INTEGER PRIMARY KEY, entry BLOB NOT NULL) STRICT;
CREATE TABLE hashes (number INTEGER PRIMARY KEY, hash BLOB NOT NULL) STRICT;

-- What was written out of the store: a folder of each exported shard, with the stages it holds.
CREATE TABLE exports (folder TEXT PRIMARY KEY, stages TEXT NOT NULL) WITHOUT ROWID, STRICT;
