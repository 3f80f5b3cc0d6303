"""How turns are read: live, later, as they stand."""
