"""What tests of Legato, and tests of what is built with it, use instead of the internet. Of the product only
`legato torture` imports this package.

``legato.testing.upstream``  a model vendor on a local port: ``Upstream``, ``Script`` and its steps, ``check_request``
``legato.testing.faults``    responses in which one thing goes wrong, by name
``legato.testing.store``     ``FaultyStore``: slow, away, full, standing still, losing its answers
``legato.testing.process``   ``ServerProcess``: a server of its own, killed, stopped and started again on its file
``legato.testing.clock``     ``JumpingClock``: set forwards and back, here and in a server's process
``legato.testing.chance``    ``Chance``: from a seed to the faults of all of these
``legato.testing.torture``   a server killed, stopped and starved while it is used, and its promises checked
"""
