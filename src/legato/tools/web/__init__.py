"""``web_search`` and ``web_fetch`` (docs/web.md): a search engine that was configured, and one page of a stranger."""
