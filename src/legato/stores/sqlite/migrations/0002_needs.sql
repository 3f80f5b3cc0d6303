-- Turns that wait for people and clients, what these answer, and outputs too large for the log.

ALTER TABLE turn ADD COLUMN wait_until TEXT;            -- only while status is waiting
-- What is looked for among the waiting: that its time is over, or that a cancel was asked for.
CREATE INDEX turn_waiting ON turn (wait_until) WHERE status = 'waiting';
CREATE INDEX turn_cancelled ON turn (nr) WHERE status = 'waiting' AND cancel_requested = 1;

-- What a call waits for. Several of one call come one after the other; answers are for the newest.
CREATE TABLE need (
    place    INTEGER NOT NULL PRIMARY KEY,              -- in the order they were said
    turn_id  TEXT    NOT NULL REFERENCES turn (id) ON DELETE CASCADE,
    call_id  TEXT    NOT NULL,
    nr       INTEGER NOT NULL,                          -- of this call, from 1
    kind     TEXT    NOT NULL,
    body     TEXT    NOT NULL,                          -- JSON: the whole of it
    answer   TEXT,                                      -- JSON; null until somebody answers
    taken    INTEGER NOT NULL DEFAULT 0,                -- 1: the turn has gone on with the answer
    seq      INTEGER NOT NULL,
    UNIQUE (turn_id, call_id, nr)
);
CREATE INDEX need_answered ON need (turn_id) WHERE answer IS NOT NULL AND taken = 0;

-- The bytes of a result that is too large for the log, in pieces, one behind the other.
CREATE TABLE output (
    turn_id  TEXT    NOT NULL REFERENCES turn (id) ON DELETE CASCADE,
    call_id  TEXT    NOT NULL,
    first    INTEGER NOT NULL CHECK (first >= 0),       -- the bytes before it
    piece    BLOB    NOT NULL,
    PRIMARY KEY (turn_id, call_id, first)
);

ALTER TABLE call ADD COLUMN result_idx INTEGER;         -- the block of its result; null until it is closed
INSERT INTO call (turn_id, call_id, result_idx)
SELECT turn_id, json_extract(body, '$.call_id'), idx FROM block WHERE type = 'tool_result' AND json_valid(body)
ON CONFLICT (turn_id, call_id) DO UPDATE SET result_idx = excluded.result_idx;
