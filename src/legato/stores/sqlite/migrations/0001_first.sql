-- Times are RFC 3339, UTC, with milliseconds: text that sorts as time does. Columns that hold JSON say so.

CREATE TABLE chat (
    id              TEXT    NOT NULL PRIMARY KEY,
    owner           TEXT    NOT NULL,               -- the principal it belongs to
    title           TEXT    NOT NULL,
    system          TEXT,
    model           TEXT,
    metadata        TEXT    NOT NULL,               -- JSON
    head_turn_id    TEXT,                           -- the leaf to show
    active_turn_id  TEXT,                           -- the one turn that has not ended
    created_at      TEXT    NOT NULL,
    updated_at      TEXT    NOT NULL
);
CREATE INDEX chat_newest ON chat (owner, updated_at DESC, id DESC);

CREATE TABLE turn (
    nr               INTEGER NOT NULL PRIMARY KEY,  -- in the order they were made, where created_at is equal
    id               TEXT    NOT NULL UNIQUE,
    chat_id          TEXT    NOT NULL REFERENCES chat (id) ON DELETE CASCADE,
    prev_turn_id     TEXT    CHECK (prev_turn_id <> id),
    role             TEXT    NOT NULL CHECK (role IN ('user', 'assistant')),
    status           TEXT    NOT NULL,
    created_at       TEXT    NOT NULL,
    depth            INTEGER NOT NULL,              -- the root has 1
    model            TEXT,
    provider         TEXT,
    request          TEXT,                          -- JSON
    fingerprint      TEXT,
    metadata         TEXT    NOT NULL,              -- JSON
    stop_reason      TEXT,
    usage            TEXT    NOT NULL,              -- JSON, the sum over the turn's rounds
    error            TEXT,                          -- JSON
    ended_at         TEXT,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    owner            TEXT,                          -- the process that runs it
    epoch            INTEGER NOT NULL DEFAULT 0,    -- the how-manyth owner that is
    lease_until      TEXT,
    last_seq         INTEGER NOT NULL DEFAULT 0,    -- the last stored event
    packed           INTEGER NOT NULL DEFAULT 0,    -- 1: its log is one row; 2: it has a hole and stays as it is
    UNIQUE (chat_id, id),
    FOREIGN KEY (chat_id, prev_turn_id) REFERENCES turn (chat_id, id)
);
CREATE INDEX turn_place ON turn (chat_id, prev_turn_id, role);
CREATE INDEX turn_unended ON turn (created_at) WHERE ended_at IS NULL AND role = 'assistant';
CREATE INDEX turn_unpacked ON turn (nr) WHERE packed = 0 AND ended_at IS NOT NULL;

-- What was said of a turn, as it was said: each line one event. One row for each flush; one for all once it has ended.
CREATE TABLE log (
    turn_id    TEXT    NOT NULL REFERENCES turn (id) ON DELETE CASCADE,
    first_seq  INTEGER NOT NULL,
    last_seq   INTEGER NOT NULL CHECK (last_seq >= first_seq),
    packed     INTEGER NOT NULL,                    -- 1: lines are compressed with zlib
    lines      BLOB    NOT NULL,
    PRIMARY KEY (turn_id, first_seq)
);

CREATE TABLE block (
    turn_id  TEXT    NOT NULL REFERENCES turn (id) ON DELETE CASCADE,
    idx      INTEGER NOT NULL,
    round    INTEGER NOT NULL,
    type     TEXT    NOT NULL,
    state    TEXT    NOT NULL,
    text     TEXT    NOT NULL,
    body     TEXT    NOT NULL,                      -- JSON: all that has no column
    seq      INTEGER NOT NULL,                      -- the event up to which it is true
    PRIMARY KEY (turn_id, idx)
);

-- One row for each request to a model.
CREATE TABLE round (
    turn_id            TEXT    NOT NULL REFERENCES turn (id) ON DELETE CASCADE,
    round              INTEGER NOT NULL,
    attempt            INTEGER NOT NULL,
    model              TEXT    NOT NULL,
    provider           TEXT    NOT NULL,
    commitment         TEXT,                        -- committed, adopted, orphaned; null while it runs
    kept_to            INTEGER,
    stop_reason        TEXT,
    provider_reason    TEXT,
    input_tokens       INTEGER,                     -- unknown figures are null, never 0
    cache_read_tokens  INTEGER,
    cache_write_tokens INTEGER,
    output_tokens      INTEGER,
    reasoning_tokens   INTEGER,
    cost_usd           REAL,
    usage_source       TEXT    NOT NULL,            -- reported, estimated, unknown
    notices            TEXT    NOT NULL,            -- JSON
    seq                INTEGER NOT NULL,
    PRIMARY KEY (turn_id, round, attempt)
);

-- Beside the blocks of a call: that it was about to start (effects only), and what the model reads of its result.
CREATE TABLE call (
    turn_id         TEXT    NOT NULL REFERENCES turn (id) ON DELETE CASCADE,
    call_id         TEXT    NOT NULL,
    round           INTEGER,
    idx             INTEGER,
    tool_name       TEXT,
    input           TEXT,                           -- JSON
    input_sha256    TEXT,
    idempotency_key TEXT,                           -- null where there is no intent
    reading         TEXT,
    formatter       TEXT,                           -- null where there is no reading
    version         INTEGER,
    PRIMARY KEY (turn_id, call_id)
);

-- The bytes of image and file blocks.
CREATE TABLE datum (
    turn_id     TEXT    NOT NULL REFERENCES turn (id) ON DELETE CASCADE,
    idx         INTEGER NOT NULL,
    media_type  TEXT    NOT NULL,
    sha256      TEXT    NOT NULL,
    name        TEXT,
    data        BLOB    NOT NULL,
    PRIMARY KEY (turn_id, idx)
);

CREATE TABLE timeline (
    turn_id  TEXT    NOT NULL PRIMARY KEY REFERENCES turn (id) ON DELETE CASCADE,
    spans    TEXT    NOT NULL,                      -- JSON
    seq      INTEGER NOT NULL
);
