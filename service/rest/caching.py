"""Responses that a client may cache."""

from flask import Response, request


def cached(response: Response) -> Response:
    """Let the client store the response and revalidate it by its ETag: it changes only with a reload or restart."""
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    response.make_conditional(request)
    return response
