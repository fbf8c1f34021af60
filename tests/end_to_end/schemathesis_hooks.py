"""What Schemathesis does not know by itself."""

from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(_: schemathesis.SerializationContext, value: Any) -> bytes:
    """Lines are text; what is none is sent as text all the same."""
    return value if isinstance(value, bytes) else str(value).encode(errors="surrogatepass")
