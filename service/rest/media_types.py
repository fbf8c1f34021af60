"""The media types of bodies."""

JSON, HTML, NDJSON, EVENTS = "application/json", "text/html", "application/x-ndjson", "text/event-stream"
PROBLEM_JSON = "application/problem+json"
