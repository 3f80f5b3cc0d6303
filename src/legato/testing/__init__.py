"""What tests of Legato, and tests of what is built with it, use instead of the internet.

``legato.testing.upstream`` is a model vendor on a local port: ``Upstream``, ``Script`` and its steps. Nothing in the
product imports this package.
"""
