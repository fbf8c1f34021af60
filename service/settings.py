"""The settings of the service, read from the environment."""

import math
import os
import sys
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

NAME = "[A-Za-z0-9][A-Za-z0-9._-]*"  # of a model


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """The number of usable cores: the CPU affinity of this process, or the quota of its container (cgroup v2 `cpu.max`,
    or v1) rounded up, if that is less."""
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
    artifacts: Path = Field(Path("model_artifacts"), description="Folder of the models, with `<model>/<version>/`.")
    models: str = Field(
        "adder,*",
        pattern=rf"^({NAME}|\*)(,({NAME}|\*))*$",
        description="Models to serve, by name; the first is the default, `*` stands for all others.",
    )
    engine: Literal["auto", "litert", "saved_model"] = Field(
        "auto",
        description="`litert`, `saved_model` (TensorFlow: slower, half a gigabyte for each worker), or `auto`: LiteRT "
        "if the version has LiteRT files.",
    )
    workers: int = Field(
        default_factory=usable_cores,
        ge=1,
        le=1024,
        description="Worker processes; by default one for each usable core.",
    )
    max_batch_queries: int = Field(8192, ge=1, description="Queries in one request, at most.")
    max_body_bytes: int = Field(1_048_576, ge=1, description="Bytes in the body of a request, at most.")
    max_queued_queries: int = Field(
        16_384, ge=1, description="Queries in the queue of a model in each worker, at most; more get 503."
    )
    deadline_seconds: float = Field(
        10, gt=0, le=3600, description="Seconds that a request waits for the model, at most; then 504."
    )
    receive_seconds: float = Field(10, gt=0, le=3600, description="Seconds that a client may take to send a request.")
    shutdown_seconds: int = Field(20, ge=1, description="Seconds that a stopping worker has to answer its requests.")
    log_format: Literal["json", "console"] = Field(
        "json", description="`json` (one object per line) or `console` (text)."
    )
    access_log: bool = Field(False, description="Log each request: method, path, status, model and times.")

    @model_validator(mode="after")
    def _queue_holds_a_batch(self) -> Self:
        if self.max_queued_queries < self.max_batch_queries:
            raise ValueError(
                f"ADDER_MAX_QUEUED_QUERIES, {self.max_queued_queries}, is below ADDER_MAX_BATCH_QUERIES, "
                f"{self.max_batch_queries}: a full batch could never be answered"
            )
        return self

    @property
    def bind(self) -> str:
        """The address for gunicorn's `bind`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The address for a client on this machine."""
        return f"localhost:{self.port}" if self.host in ("0.0.0.0", "::") else self.bind  # noqa: S104  compared only


def settings_or_exit() -> Settings:
    """Read the settings, or end the process with one line that names the variable and the rule."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        value = "".join(f"ADDER_{str(part).upper()} is {first['input']!r}: " for part in first["loc"])
        sys.exit(f"error: {value}{first['msg'].removeprefix('Value error, ')}")
