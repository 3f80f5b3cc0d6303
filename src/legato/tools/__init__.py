"""What a model may call: declarations, the registry of tools, and the formatters that say what it reads of a result."""
