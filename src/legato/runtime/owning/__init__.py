"""Whose a turn is, for how long, and how that is known."""
