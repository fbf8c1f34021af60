"""Replies that clients may keep."""

from flask import Response, request


def cached(response: Response) -> Response:
    """To be kept, and asked for by its ETag before it is used again: for what changes only with the service."""
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    response.make_conditional(request)
    return response
