"""The client of a running service. Requires requests and pydantic alone.

Nothing here imports another package of this repository.
"""
