"""The same SavedModel behind other servers, and this service beside them: `python -m tests.benchmarks.peers`."""
