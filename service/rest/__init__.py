"""Shared by all routes: bodies, schemas, inference, NDJSON, problem documents, headers.

No route and no dialect here.
"""
