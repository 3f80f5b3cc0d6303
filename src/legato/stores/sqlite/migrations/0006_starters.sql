-- Which process was about to start a call with effects: while it may live, the effect may still come.

ALTER TABLE call ADD COLUMN owner TEXT;
