-- Format 4. `waiting`: how many records of the request are not erased yet.
ALTER TABLE requests ADD COLUMN waiting INTEGER NOT NULL DEFAULT 0;
UPDATE requests SET waiting = (SELECT count(*) FROM records WHERE dead = requests.epoch) WHERE erased IS NULL;
CREATE INDEX requests_not_erased ON requests (epoch) WHERE erased IS NULL;

-- A folder may have been exported to more than once. Paths are bytes, as the system has them. `files`: for each file that was
-- written, its name, length and keyed digest; NULL while they are being written, and for exports of format 3. `unfinished`: the
-- folder in which they are being written.
ALTER TABLE exports RENAME TO exports_3;
CREATE TABLE exports (
    number INTEGER PRIMARY KEY,
    folder BLOB NOT NULL,
    stages TEXT NOT NULL,
    files TEXT,
    unfinished BLOB
) STRICT;
INSERT INTO exports (folder, stages) SELECT CAST(folder AS BLOB), stages FROM exports_3;
DROP TABLE exports_3;
