"""The worker process: where settings become adapters and adapters meet activities."""
