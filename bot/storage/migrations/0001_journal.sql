-- The migrations that this file went through.
CREATE TABLE migrations (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) STRICT;

-- AUTOINCREMENT keeps the highest seq ever given in sqlite_sequence, so that rows missing at the end are noticed too.
CREATE TABLE journal (
    seq INTEGER PRIMARY KEY AUTOINCREMENT CHECK (seq > 0),
    ts_ns INTEGER NOT NULL,
    payload BLOB NOT NULL,
    digest BLOB NOT NULL CHECK (length(digest) = 32)
) STRICT;

CREATE TRIGGER journal_is_never_changed BEFORE UPDATE ON journal
BEGIN
    SELECT RAISE(ABORT, 'the journal is append-only');
END;

CREATE TRIGGER journal_is_never_cut BEFORE DELETE ON journal
BEGIN
    SELECT RAISE(ABORT, 'the journal is append-only');
END;
