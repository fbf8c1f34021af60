"""The media types of bodies."""

from flask import Request

JSON, HTML, NDJSON, EVENTS = "application/json", "text/html", "application/x-ndjson", "text/event-stream"
PROBLEM_JSON = "application/problem+json"
UNBUFFERED = {"X-Accel-Buffering": "no"}  # header of a stream: nginx would hold it back
# No type for lines of JSON is registered, and tools send each of these.
LINE_TYPES = (NDJSON, "application/ndjson", "application/jsonl", "application/x-jsonlines", "application/json-lines")


def prefers_html(request: Request) -> bool:
    """Whether the client is a browser that opens a page, by its Accept header."""
    return request.accept_mimetypes.best_match((JSON, HTML)) == HTML
