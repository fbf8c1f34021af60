"""Cross-origin requests of browsers (CORS: https://fetch.spec.whatwg.org/#http-cors-protocol)."""

from flask import Flask, Response, request

EXPOSED = "Retry-After, Server-Timing, X-Request-ID"  # headers that a page may read
ALLOWED = "*, Authorization"  # headers that a page may send; `*` does not include Authorization
PREFLIGHT_SECONDS = "600"  # for which a browser may remember the answer to a preflight


def register(app: Flask, origins: str) -> None:
    """Let pages of these origins, separated by commas, read every response of `app`, errors too; `*` is any origin.

    Nothing is added if there are none. Cookies are never allowed: the service has none.
    """
    if not origins:
        return
    allowed = frozenset(origins.split(","))

    def add_headers(response: Response) -> Response:
        headers = response.headers
        if "*" in allowed:
            headers["Access-Control-Allow-Origin"] = "*"
        else:
            response.vary.add("Origin")  # the response to another origin must not come from a cache
            if (origin := request.headers.get("Origin")) not in allowed:
                return response
            headers["Access-Control-Allow-Origin"] = origin
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:  # a preflight
            headers["Access-Control-Allow-Methods"] = headers.get("Allow", "")
            headers["Access-Control-Allow-Headers"] = ALLOWED
            headers["Access-Control-Max-Age"] = PREFLIGHT_SECONDS
        else:
            headers["Access-Control-Expose-Headers"] = EXPOSED
        return response

    app.after_request(add_headers)
