"""Input that both dialects read in the same way: the version in a path, and text in bytes."""

import re

from service.errors import InvalidArgument


def version_number(version: str | None) -> int | None:
    """Parse the version in a path; None stays None. Raises InvalidArgument, in the words of TensorFlow Serving."""
    if version is None:
        return None
    if not re.fullmatch("[0-9]{1,18}", version):
        raise InvalidArgument(f"Failed to convert version: {version} to numeric.")
    return int(version)


def text_of(content: bytes) -> str:
    """Decode UTF-8. Invalid bytes are escaped, so that an error can show them."""
    return content.decode(errors="backslashreplace")
