"""The settings of the service, read from the environment."""

import math
import os
import re
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, Self

from pydantic import AliasChoices, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

NAME = "[A-Za-z0-9][A-Za-z0-9._-]*"  # of a model
SELECTED = rf"{NAME}(@(0|[1-9][0-9]{{0,17}}))?"  # a model, or one version of it
ORIGIN = r"https?://[^\s/,*]+"
PREFIX = "ADDER_"
# What platforms set, and gunicorn's own names: read if the variable of the service is not set.
FALLBACKS = {"ADDER_PORT": "PORT", "ADDER_WORKERS": "WEB_CONCURRENCY"}
CLIENT_VARIABLES = ("ADDER_URL",)  # the client reads it: an environment may be common to both
# Kubernetes sets variables in each pod for each Service: of a Service named `adder`, or `adder-<more>`, these.
SERVICE_LINK = re.compile(r"ADDER_(\w+_)?(SERVICE_(HOST|PORT)|PORT_\d+_(TCP|UDP|SCTP))(_\w+)?", re.ASCII)
SERVICE_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://.*")


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


def usable_memory(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """The usable memory in bytes: that of the machine, or the limit of the container (cgroup v2 `memory.max`, or v1) if
    that is less."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for file in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            limit = (cgroup / file).read_text().strip()
        except OSError:
            continue
        return machine if limit == "max" else min(machine, int(limit))
    return machine


class Settings(BaseSettings):
    """Each field is read from the variable `ADDER_` and its name in capitals. Raises pydantic's ValidationError."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, populate_by_name=True)

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(
        8000,
        ge=1,
        le=65535,
        validation_alias=AliasChoices("ADDER_PORT", FALLBACKS["ADDER_PORT"]),
        description="Port to listen on; `PORT` if it is not set.",
    )
    artifacts: Path = Field(Path("model_artifacts"), description="Folder of the models, with `<model>/<version>/`.")
    models: str = Field(
        "adder,*",
        pattern=rf"^({SELECTED}|\*)(,({SELECTED}|\*))*$",
        description="Models to serve, by name; the first is the default, `*` stands for all others. `adder@2,adder@1` "
        "are two versions of a model, the first its default, and no others.",
    )
    watch_seconds: float = Field(
        1, ge=0, le=3600, description="Seconds between two looks at the folder of the models; 0: only on `SIGHUP`."
    )
    engine: Literal["auto", "litert", "saved_model"] = Field(
        "auto",
        description="`litert`, `saved_model` (TensorFlow: slower, up to a gigabyte for each worker), or `auto`: LiteRT "
        "if the version has LiteRT files.",
    )
    workers: int = Field(
        default_factory=usable_cores,
        ge=1,
        le=1024,
        validation_alias=AliasChoices("ADDER_WORKERS", FALLBACKS["ADDER_WORKERS"]),
        description="Worker processes; `WEB_CONCURRENCY` if it is not set, or one for each usable core.",
    )
    max_batch_queries: int = Field(8192, ge=1, description="Queries in one request, at most.")
    max_body_bytes: int = Field(1_048_576, ge=1, description="Bytes in the body of a request, at most.")
    max_queued_queries: int = Field(
        16_384,
        ge=1,
        description="Queries in the queue of a model in each worker, and in the batches that a worker reads and "
        "answers at once; more get 503.",
    )
    deadline_seconds: float = Field(
        10, gt=0, le=3600, description="Seconds that a request waits for the model, at most; then 504."
    )
    receive_seconds: float = Field(10, gt=0, le=3600, description="Seconds that a client may take to send a request.")
    shutdown_seconds: int = Field(20, ge=1, description="Seconds that a stopping worker has to answer its requests.")
    log_format: Literal["json", "console"] = Field(
        "json", description="`json` (one object per line) or `console` (text)."
    )
    access_log: bool = Field(
        False, description="Log each request: client, method, path, status, problem, trace, model and times."
    )

    repository_control: bool = Field(
        False, description="Allow clients to load and unload models: `POST /v2/repository/models/<model>/load`."
    )
    prediction_log: str = Field(
        "", description="Folder for a log of all queries and answers, which `python -m service replay` asks again."
    )
    cors_origins: str = Field(
        "", description="Origins whose pages may call the service from a browser, by comma, or `*` for any (CORS)."
    )

    @field_validator("host")
    @classmethod
    def _without_brackets(cls, host: str) -> str:
        """`[::1]`, as URLs write an address of IPv6, is `::1`."""
        return host[1:-1] if host.startswith("[") and host.endswith("]") else host

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: str) -> str:
        if not re.fullmatch(rf"(\*|{ORIGIN}(,{ORIGIN})*)?", origins.lower()):
            raise ValueError("an origin is a scheme and a host without a path, like https://app.example or *")
        return origins.lower()  # as browsers write them

    @field_validator("port", mode="before")
    @classmethod
    def _default_for_a_service_link(cls, port: object) -> object:
        is_link = isinstance(port, str) and SERVICE_LINK_VALUE.fullmatch(port)
        return cls.model_fields["port"].default if is_link else port

    @field_validator("models")
    @classmethod
    def _pins_all_or_none(cls, models: str) -> str:
        named = models.split(",")
        for name in named:
            model, pin, _ = name.partition("@")
            if pin and model in named:
                raise ValueError(f"{model} is there with and without a version: choose one")
        return models

    @model_validator(mode="after")
    def _queue_holds_a_batch(self) -> Self:
        if self.max_queued_queries < self.max_batch_queries:
            raise ValueError(
                f"ADDER_MAX_QUEUED_QUERIES, {self.max_queued_queries}, is below ADDER_MAX_BATCH_QUERIES, "
                f"{self.max_batch_queries}: a full batch could never be answered"
            )
        return self

    @property
    def selection(self) -> dict[str, list[int]]:
        """The names in `models`, each with the versions that are pinned, if any are."""
        selection: dict[str, list[int]] = {}
        for named in self.models.split(","):
            name, _, version = named.partition("@")
            selection.setdefault(name, []).extend([int(version)] if version else [])
        return selection

    @property
    def bind(self) -> str:
        """The address for gunicorn's `bind`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The address for a client on this machine."""
        return f"localhost:{self.port}" if self.host in ("0.0.0.0", "::") else self.bind  # noqa: S104  compared only


def settings_or_exit(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings, or end the process with one line that names the variable and the rule."""
    if refused := refused_variable(environment):
        sys.exit(f"error: {refused}")
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        value = "".join(f"{_variable(str(part))} is {first['input']!r}: " for part in first["loc"])
        sys.exit(f"error: {value}{first['msg'].removeprefix('Value error, ')}")


def _variable(field: str) -> str:
    """The variable that a field was read from: pydantic names a field with aliases by the first."""
    if fallback := FALLBACKS.get(field):
        return field if os.environ.get(field) else fallback
    return f"{PREFIX}{field.upper()}"


def refused_variable(environment: Mapping[str, str]) -> str | None:
    """Why the service does not start with these environment variables, if it does not: one is not known, or gunicorn
    would read one against the service. An empty variable is not set."""
    known = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    for variable, value in environment.items():
        name = variable.upper()  # pydantic-settings ignores case
        is_link = SERVICE_LINK.fullmatch(name) or SERVICE_LINK_VALUE.fullmatch(value)
        if value and name.startswith(PREFIX) and name not in (*known, *CLIENT_VARIABLES) and not is_link:
            [nearest] = get_close_matches(name, known, n=1, cutoff=0)
            return f"{variable} is not a setting: the nearest is {nearest}"
    if path := environment.get("SCRIPT_NAME"):
        return (
            f"SCRIPT_NAME is {path!r}, and the paths of the service start at the root: unset it, and let the proxy "
            "remove the prefix"
        )
    return None


def ignored_variable(environment: Mapping[str, str]) -> str | None:
    """Why ADDER_PORT has no effect, if it is what Kubernetes makes of a Service named `adder`."""
    port = environment.get("ADDER_PORT", "")
    if not SERVICE_LINK_VALUE.fullmatch(port):
        return None
    return (
        f"ADDER_PORT is {port!r}, which Kubernetes sets for a Service named adder: it is ignored, and the port is "
        f"{Settings().port}; set enableServiceLinks to false in the pod"
    )
