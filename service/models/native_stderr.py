"""Logs the output of the C++ code of TensorFlow and LiteRT to stderr."""

import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

tensorflow_log = logging.getLogger("tensorflow")

LEVELS = {"I": logging.INFO, "W": logging.WARNING, "E": logging.ERROR, "F": logging.CRITICAL}
# `INFO: ...`, `E0000 00:00:1764000000.000000 ...` and `2026-11-24 12:00:00.000000: W tensorflow/...`.
LEVEL = re.compile(r"(?:[-0-9]+ [:.0-9]+: )?([IWEF])(?:NFO:|ARNING:|RROR:|ATAL:|\d{4})? ")


@contextmanager
def capture_stderr() -> Iterator[None]:
    """Log the output of native code to file descriptor 2 inside the `with` block."""
    with tempfile.TemporaryFile() as written:
        stderr = os.dup(2)
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            written.seek(0)
            log_stderr(written.read().decode(errors="replace"))


def log_stderr(text: str) -> None:
    """Log the text line by line; a line without a level is a warning."""
    for line in filter(str.strip, text.splitlines()):
        level = LEVEL.match(line)
        tensorflow_log.log(LEVELS[level[1]] if level else logging.WARNING, "%s", line)
