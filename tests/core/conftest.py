"""How often the properties are tried: a little in every run, much in the slow one (test_deep.py)."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# No deadline, since a busy machine fails no test; no complaint about slow data, since lives are large.
settings.register_profile(
    "legato",
    max_examples=int(os.environ.get("LEGATO_TEST_EXAMPLES", "25")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("legato")
