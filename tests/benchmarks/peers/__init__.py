"""The same SavedModel behind other servers, measured in turn with this service: `python -m tests.benchmarks.peers`."""
