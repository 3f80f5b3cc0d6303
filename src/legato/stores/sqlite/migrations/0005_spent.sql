-- Ids of turns that went with their chat. None is taken again: a cursor of the old turn must not meet a new one.

CREATE TABLE spent (
    turn_id TEXT NOT NULL PRIMARY KEY
) WITHOUT ROWID;
