"""Who serves models: one file for each wire, and one shared way to stream."""
