-- The workspace: documents of an owner at their paths. Changes are counted over the whole of it, and the number of the
-- change that made a document what it is, is its version.

CREATE TABLE workspace (
    owner    TEXT    NOT NULL PRIMARY KEY,
    changes  INTEGER NOT NULL                       -- the number of the last one
);

CREATE TABLE document (
    nr          INTEGER NOT NULL PRIMARY KEY,
    owner       TEXT    NOT NULL,
    path        TEXT    NOT NULL,
    key         TEXT    NOT NULL,                   -- what paths are compared by: case folded
    text        TEXT    NOT NULL,
    bytes       INTEGER NOT NULL,
    words       INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    created_at  TEXT    NOT NULL,
    updated_at  TEXT    NOT NULL,
    deleted     INTEGER NOT NULL DEFAULT 0          -- 1: it can be brought back
);
CREATE UNIQUE INDEX document_place ON document (owner, key) WHERE deleted = 0;
CREATE INDEX document_size ON document (owner, bytes) WHERE deleted = 0;
CREATE INDEX document_deleted ON document (owner, version DESC) WHERE deleted = 1;

-- A document as each change left it. A move or a deletion keeps no text: it is that of the change before.
CREATE TABLE document_version (
    document  INTEGER NOT NULL REFERENCES document (nr) ON DELETE CASCADE,
    version   INTEGER NOT NULL,
    what      TEXT    NOT NULL,                     -- created, edited, moved, deleted, restored
    path      TEXT    NOT NULL,
    text      BLOB,                                 -- compressed with zlib
    bytes     INTEGER NOT NULL,
    words     INTEGER NOT NULL,
    at        TEXT    NOT NULL,
    PRIMARY KEY (document, version)
);

-- What came of the changes that a tool's call made, by its idempotency key.
CREATE TABLE document_call (
    nr       INTEGER NOT NULL PRIMARY KEY,
    key      TEXT    NOT NULL UNIQUE,
    changed  TEXT    NOT NULL                       -- JSON
);

CREATE VIEW document_there AS SELECT nr, owner, path, text FROM document WHERE deleted = 0;

-- Vowel signs belong to their words. The owner is a column, so that one workspace's words cost another one nothing.
-- Without an index of beginnings: they are found as fast, and a text is indexed in a third of the time (2026-11).
CREATE VIRTUAL TABLE document_words USING fts5 (
    owner, path, text,
    content = 'document_there', content_rowid = 'nr',
    tokenize = "unicode61 remove_diacritics 2 categories 'L* N* Co Mn Mc'"
);
CREATE TRIGGER document_added AFTER INSERT ON document WHEN new.deleted = 0 BEGIN
    INSERT INTO document_words (rowid, owner, path, text) VALUES (new.nr, new.owner, new.path, new.text);
END;
CREATE TRIGGER document_changed AFTER UPDATE OF owner, path, text, deleted ON document BEGIN
    INSERT INTO document_words (document_words, rowid, owner, path, text)
        SELECT 'delete', old.nr, old.owner, old.path, old.text WHERE old.deleted = 0;
    INSERT INTO document_words (rowid, owner, path, text)
        SELECT new.nr, new.owner, new.path, new.text WHERE new.deleted = 0;
END;
CREATE TRIGGER document_removed AFTER DELETE ON document WHEN old.deleted = 0 BEGIN
    INSERT INTO document_words (document_words, rowid, owner, path, text)
        VALUES ('delete', old.nr, old.owner, old.path, old.text);
END;
