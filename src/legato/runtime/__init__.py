"""The only place that starts tasks, waits, times out and cancels. What is decided is decided in core."""
