"""Legato: a self-hosted LLM turn server."""
