"""wrk, the load generator: each connection sends its next request as soon as it has the response to the last."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

SCRIPT = Path(__file__).with_name("queries.lua")


class Load(NamedTuple):
    """The result of one run of wrk."""

    requests: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    refused_per_second: float

    @property
    def answered_per_second(self) -> float:
        """Requests a second that were not refused."""
        return self.requests_per_second - self.refused_per_second


def require_wrk() -> None:
    """Exit with a message if wrk is not installed."""
    if not shutil.which("wrk"):
        sys.exit("error: wrk is missing: it is the Debian package wrk, `apt-get install wrk`")


def wrk(url: str, connections: int, seconds: int, body: str, *, may_be_refused: bool = False) -> Load:
    """POST `body` to `url` over kept-alive connections, with a random query in place of each `%s`.

    Raises RuntimeError if a request failed, or had another status than 2xx and none `may_be_refused`.
    """
    ran = subprocess.run(
        # One thread of wrk sends more requests than two cores can answer.
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "--script", str(SCRIPT), url],
        env=os.environ | {"BODY": body},
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode != 0:
        raise RuntimeError(f"wrk failed: {ran.stderr or ran.stdout}")
    result = json.loads(ran.stdout.splitlines()[-1])
    failed = result["failed"] + (0 if may_be_refused else result["refused"])
    if failed or not result["requests"]:
        raise RuntimeError(f"{failed} of {result['requests']} requests to {url} failed")
    seconds_run = result["duration_us"] / 1e6
    return Load(
        result["requests"],
        result["requests"] / seconds_run,
        result["p50_us"] / 1000,
        result["p99_us"] / 1000,
        result["refused"] / seconds_run,
    )
