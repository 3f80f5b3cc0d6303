"""Are our sites up? Each is asked the moment the model has named it, all at once, while it still talks.

SITES=https://example.org,https://example.com .venv/bin/legato serve examples/sites.py
.venv/bin/legato chat "Are all of our sites up?"
"""

from __future__ import annotations

import os
import time
from typing import Annotated
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from legato import ToolContext, ToolError, formatter, tool

SITES = [site for site in os.environ.get("SITES", "").split(",") if site.startswith(("http://", "https://"))]
"""A model names only these: it must not reach what stands beside the server."""
PATIENCE = 8.0
"""Seconds for a site; the tool's own timeout is a little longer, so that the answer says what happened."""


@tool(effect="read")
def list_sites() -> list[str]:
    """The sites that can be checked."""
    return SITES


@tool(effect="read", timeout=10)
def check_site(site: Annotated[str, "One of list_sites"], *, ctx: ToolContext) -> dict[str, object]:
    """Ask a site for its first page: its HTTP status, and how many ms it took."""
    if site not in SITES:
        raise ToolError(f"{site!r} is not one of {', '.join(SITES) or 'no sites: set SITES'}")
    ctx.emit(f"asking {site} …\n")
    began = time.monotonic()
    request = Request(site, headers={"user-agent": "legato-example"})  # noqa: S310 - http and https alone, see SITES
    try:
        with urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
            status = answer.status
    except HTTPError as error:
        status = error.code
    except (URLError, TimeoutError, ConnectionError) as error:
        raise ToolError(f"{site} does not answer: {getattr(error, 'reason', error)}") from error
    return {"site": site, "status": status, "ms": round((time.monotonic() - began) * 1000)}


@formatter("check_site", version=1)
def site_line(checked: dict[str, object]) -> str:
    return f"{checked['site']}: {checked['status']} in {checked['ms']} ms"
