"""One call of a tool, from its start to its one end: run, watched, shown, bounded, stopped."""
