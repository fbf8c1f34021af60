"""Every setting of the service, read from the environment."""

import math
import os
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

NAME = "[A-Za-z0-9][A-Za-z0-9._-]*"


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """How many cores this process may use: its CPU affinity, and in a container its quota (cgroup v2 `cpu.max`, or v1),
    rounded up."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except OSError:
        try:
            quota = (cgroup / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return affinity
    if quota in ("max", "-1"):
        return affinity
    return min(affinity, math.ceil(int(quota) / int(period)))


class Settings(BaseSettings):
    """Each field is read from the variable `ADDER_` and its name in capitals. Raises pydantic's ValidationError."""

    model_config = SettingsConfigDict(env_prefix="ADDER_", frozen=True)

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(8000, ge=1, le=65535, description="Port to listen on.")
    artifacts: Path = Field(Path("model_artifacts"), description="Folder that holds `<model>/<version>/`.")
    models: str = Field(
        "adder,*",
        pattern=rf"^({NAME}|\*)(,({NAME}|\*))*$",
        description="Names of the models to serve; the first answers by default, `*` stands for all others by name.",
    )
    workers: int = Field(
        default_factory=usable_cores,
        ge=1,
        le=1024,
        description="Processes; by default one for each core that may be used.",
    )
    max_batch_queries: int = Field(8192, ge=1, description="Queries that one request may hold.")
    max_body_bytes: int = Field(1_048_576, ge=1, description="Largest body of a request.")
    max_queued_queries: int = Field(
        16_384, ge=1, description="Queries that may wait for one network in each worker; more get 503."
    )
    deadline_seconds: float = Field(
        10, gt=0, le=3600, description="How long a request may wait for the network; then 504."
    )
    receive_seconds: float = Field(10, gt=0, le=3600, description="How long a client may take to send a request.")
    shutdown_seconds: int = Field(20, ge=1, description="How long a stopping worker goes on with begun requests.")
    log_format: Literal["json", "console"] = Field(
        "json", description="`json`, an object a line, or `console`, for people."
    )
    access_log: bool = Field(False, description="Log each request: who asked what, what became of it, and the times.")

    @model_validator(mode="after")
    def _queue_holds_a_batch(self) -> Self:
        if self.max_queued_queries < self.max_batch_queries:
            raise ValueError(
                f"ADDER_MAX_QUEUED_QUERIES, {self.max_queued_queries}, is below ADDER_MAX_BATCH_QUERIES, "
                f"{self.max_batch_queries}: a full batch would never be answered"
            )
        return self
