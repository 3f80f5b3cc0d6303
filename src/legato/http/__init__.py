"""Surfaces translate, they never decide: HTTP in front of ``runtime.service`` (docs/http.md)."""
