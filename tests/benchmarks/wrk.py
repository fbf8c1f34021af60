"""wrk, the load generator: many connections, each with its next request as soon as it has the answer to the last."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

SCRIPT = Path(__file__).with_name("queries.lua")


class Load(NamedTuple):
    """What one run of wrk saw."""

    requests: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float


def require_wrk() -> None:
    """Stop here where it is missing."""
    if not shutil.which("wrk"):
        sys.exit("error: wrk is missing: it is the Debian package wrk, `apt-get install wrk`")


def wrk(url: str, connections: int, seconds: int, body: str) -> Load:
    """POST `body` to `url` over kept-alive connections, with a random query in place of each `%s`.

    Raises RuntimeError where a request failed or was not answered with 2xx.
    """
    ran = subprocess.run(
        # One thread of wrk makes more requests than two cores answer.
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "--script", str(SCRIPT), url],
        env=os.environ | {"BODY": body},
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode != 0:
        raise RuntimeError(f"wrk failed: {ran.stderr or ran.stdout}")
    saw = json.loads(ran.stdout.splitlines()[-1])
    if saw["failed"] or not saw["requests"]:
        raise RuntimeError(f"{saw['failed']} of {saw['requests']} requests to {url} failed")
    per_second = saw["requests"] / saw["duration_us"] * 1e6
    return Load(saw["requests"], per_second, saw["p50_us"] / 1000, saw["p99_us"] / 1000)
