"""What the processes say about themselves: structured logs and metrics."""
