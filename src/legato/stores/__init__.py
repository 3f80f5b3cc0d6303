"""Where everything is kept: ``memory`` for tests, ``sqlite`` for one machine. One conformance suite holds for all."""
