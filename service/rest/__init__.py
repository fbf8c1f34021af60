"""What all routes share: bodies, schemas, inference, NDJSON, problem documents, headers.

No route and no dialect here.
"""
