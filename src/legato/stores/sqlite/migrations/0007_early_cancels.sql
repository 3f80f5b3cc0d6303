-- Cancels of turns that nobody has posted yet, for a minute: any process on the file may get the post.

CREATE TABLE early_cancel (
    turn_id TEXT NOT NULL,
    owner   TEXT NOT NULL,                              -- the chat's
    until   TEXT NOT NULL,
    PRIMARY KEY (turn_id, owner)
) WITHOUT ROWID;
CREATE INDEX early_cancel_until ON early_cancel (until);
