"""How long a request to a model waits that is made once more."""

from __future__ import annotations

import random

BACKOFF_SECONDS = 0.5
"""Before the first retry; doubled for each further one, with jitter, up to ``BACKOFF_MOST``."""
BACKOFF_MOST = 8.0
RETRY_AFTER_MOST = 120.0
"""A vendor that asks for more than this is asked again after this."""


def backoff(retry: int, retry_after: float | None) -> float:
    """Seconds before the ``retry``-th further request, spread so that many turns do not come back at once."""
    doubled: float = BACKOFF_SECONDS * 2 ** (retry - 1)
    jitter = random.uniform(0.5, 1.0)  # noqa: S311 - nobody's secret
    return max(min(doubled, BACKOFF_MOST) * jitter, min(retry_after or 0.0, RETRY_AFTER_MOST))
