"""What the dialects that speak of tensors share."""

import re

from service.errors import InvalidArgument


def version_number(version: str | None) -> int | None:
    """The version that a path names, if it does. Raises InvalidArgument."""
    if version is None:
        return None
    if not re.fullmatch("[0-9]{1,18}", version):
        raise InvalidArgument(f"Failed to convert version: {version} to numeric.")
    return int(version)


def text_of(content: bytes) -> str:
    """The text that bytes are in UTF-8. What is none is escaped, so that a refusal can show it."""
    return content.decode(errors="backslashreplace")
