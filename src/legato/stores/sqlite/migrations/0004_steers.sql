-- What people say into turns that run, and turns that wait for their chat.

CREATE TABLE steer (
    place     INTEGER NOT NULL PRIMARY KEY,             -- in the order they were kept
    turn_id   TEXT    NOT NULL REFERENCES turn (id) ON DELETE CASCADE,
    steer_id  TEXT    NOT NULL,
    text      TEXT    NOT NULL,
    state     TEXT    NOT NULL,                         -- posted, accepted, delivered, returned
    seq       INTEGER NOT NULL,                         -- 0 while its owner has not said so
    UNIQUE (turn_id, steer_id)
);
CREATE INDEX steer_posted ON steer (turn_id) WHERE state = 'posted';

ALTER TABLE round ADD COLUMN steers TEXT NOT NULL DEFAULT '[]'; -- JSON

ALTER TABLE turn ADD COLUMN queue_place INTEGER;        -- among the queued of its chat, the lowest first
CREATE INDEX turn_queued ON turn (chat_id, queue_place) WHERE status = 'queued';
ALTER TABLE turn ADD COLUMN cancel_mode TEXT;           -- now, after_block, after_round
-- Whose owner must be told, wherever the cancel came in.
CREATE INDEX turn_to_cancel ON turn (owner) WHERE cancel_requested = 1 AND ended_at IS NULL;
