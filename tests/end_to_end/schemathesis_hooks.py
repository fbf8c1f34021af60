"""A serializer that Schemathesis lacks."""

from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(_: schemathesis.SerializationContext, value: Any) -> bytes:
    """Send a body of NDJSON as text, also where it is no text."""
    return value if isinstance(value, bytes) else str(value).encode(errors="surrogatepass")
