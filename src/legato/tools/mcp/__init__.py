"""Tools from servers of the Model Context Protocol (docs/mcp.md).

A host opens a connection to each configured server in the background, offers what it lists, and hands calls on. What
knows the SDK (``session``, ``stdio``, ``http``) is imported in a thread, and only where a server is configured: it
takes a second and 64 MB (measured 2026-11).
"""
