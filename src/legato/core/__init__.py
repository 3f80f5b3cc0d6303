"""What a turn is and what happens to it, decided without a network, a database or a clock.

Nothing in here waits, reads the environment or draws a random number: inputs come in as values, decisions go out as
values. So every decision can be tested with a list, and replayed from one.
"""
