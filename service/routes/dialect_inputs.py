"""Input that both dialects read alike: the version in a path, and text in bytes."""

import re

from service.errors import InvalidArgument


def version_number(version: str | None) -> int | None:
    """The version in a path, or None. Raises InvalidArgument."""
    if version is None:
        return None
    if not re.fullmatch("[0-9]{1,18}", version):
        raise InvalidArgument(f"Failed to convert version: {version} to numeric.")
    return int(version)


def text_of(content: bytes) -> str:
    """The text of bytes in UTF-8. Bytes that are not UTF-8 are escaped, so that an error can show them."""
    return content.decode(errors="backslashreplace")
