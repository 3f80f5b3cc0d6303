"""What the turns of one process have in common."""

from __future__ import annotations

import msgspec

from legato.ports import Clock, Formatters, Store, Tools
from legato.runtime.calls.toolbox import Toolbox
from legato.runtime.owning.lease import Lease
from legato.runtime.storing.journal import Journal


class House(msgspec.Struct, frozen=True, kw_only=True):
    """What all turns of this process share."""

    store: Store
    journal: Journal
    toolbox: Toolbox
    tools: Tools
    formatters: Formatters
    clock: Clock
    lease: Lease
    wait_timeout: float
    """Seconds that a turn waits for people and clients."""
