"""The image and the compose file, with a real engine."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, missing
from tests.end_to_end.conftest import free_port

pytestmark = pytest.mark.timeout(900)


def docker(*arguments: str) -> str:
    """What a docker command prints."""
    done = subprocess.run(
        ["docker", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout.strip()


def inspect(container: str) -> dict[str, Any]:
    [found] = json.loads(docker("inspect", container))
    return dict(found)


def until_healthy(container: str) -> None:
    end = time.monotonic() + 120
    while (state := inspect(container)["State"])["Health"]["Status"] != "healthy":
        assert state["Running"], docker("logs", container)
        assert time.monotonic() < end, docker("logs", container)
        time.sleep(0.5)


class Composed:
    """The service, as `docker-compose up` brings it in a clone whose files only its owner can read."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._clone = folder / "clone"
        for part in ("service", "model_artifacts"):
            shutil.copytree(ROOT / part, self._clone / part)
        for file in ("Dockerfile", "docker-compose.yml", ".dockerignore"):
            shutil.copy(ROOT / file, self._clone / file)
        subprocess.run(["chmod", "--recursive", "u=rwX,go=", self._clone], check=True)
        # A build here may reach the package index only through the host's network; users' builds need no such thing.
        override = folder / "override.yml"
        override.write_text("services: {adder: {build: {network: host}}}")
        self._command = ["docker-compose", "--project-name", "adder-test", "--file", "docker-compose.yml"]
        self._command += ["--file", str(override)]

    def run(self, *arguments: str) -> str:
        environment = os.environ | {"ADDER_PORT": str(self.port)}
        done = subprocess.run(
            [*self._command, *arguments], cwd=self._clone, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    @property
    def container(self) -> str:
        return self.run("ps", "--quiet", "adder")


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    if not shutil.which("docker-compose") or subprocess.run(["docker", "info"], capture_output=True).returncode:
        missing("a Docker engine with docker-compose")
    service = Composed(tmp_path_factory.mktemp("compose"))
    service.run("up", "--build", "--detach")
    until_healthy(service.container)
    yield service
    container = service.container
    service.run("stop")
    assert inspect(container)["State"]["ExitCode"] == 0
    service.run("down")
    assert docker("ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project=adder-test") == ""


@pytest.mark.usefixtures("curl")
def test_a_query_is_answered(composed: Composed) -> None:
    url = f"http://127.0.0.1:{composed.port}/predict"
    command = ["curl", "-s", url, "-H", "content-type: application/json", "-d", '{"query":"123+456"}']
    answer = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert (answer["query"], answer["answer"]) == ("123+456", "579")


def test_it_has_limits_and_no_rights(composed: Composed) -> None:
    found = inspect(composed.container)
    assert found["HostConfig"]["Memory"] == 3 * 1024**3
    assert found["HostConfig"]["CpuQuota"] == 2 * 100_000  # microseconds of each 100 ms
    assert found["HostConfig"]["NanoCpus"] == 0
    assert found["HostConfig"]["ReadonlyRootfs"] is True
    assert found["HostConfig"]["CapDrop"] == ["ALL"]
    assert found["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert found["Config"]["User"] == "10001"
    assert found["Config"]["StopTimeout"] == 30


def test_it_holds_what_serving_needs_and_no_more(composed: Composed) -> None:
    inside = docker("exec", composed.container, "find", "/srv", "-maxdepth", "2", "-not", "-name", "*.py")
    assert set(inside.split()) == {
        "/srv",
        "/srv/service",
        "/srv/service/requirements.txt",
        "/srv/service/requirements-traces.txt",
        *(f"/srv/service/{package}" for package in ("client", "models", "openapi", "rest", "routes", "telemetry")),
        "/srv/service/static",
        "/srv/service/templates",
        "/srv/model_artifacts",
        *(f"/srv/model_artifacts/{folder.name}" for folder in (ROOT / "model_artifacts").iterdir()),
    }
    installed = docker("exec", composed.container, "ls", "/venv/lib/python3.11/site-packages").split()
    assert "flask" in installed
    assert not {"pip", "pytest", "matplotlib", "uv"} & set(installed)
    assert "PIP_" not in docker("history", "--no-trunc", "neural-adder")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (
            ["--shm-size", "64k"],
            "error: the folder of the metrics cannot be created: /dev/shm has 64 kB free, and 2 workers require 2048 k",
        ),
        (
            ["--ipc", "none", "--read-only"],
            "error: the folder of the metrics cannot be created: [Errno 2] No usable te",
        ),
        (
            ["--memory", "256m", "--memory-swap", "256m"],
            "error: the check of the SavedModels was killed, as the system does when memory runs out: it requires 800 "
            "MB, and the service may use 256 MB",
        ),
    ],
)
def test_too_little_memory_is_reported_in_one_line(composed: Composed, options: list[str], error: str) -> None:
    image = inspect(composed.container)["Image"]
    command = ["docker", "run", "--rm", "--env", "ADDER_WORKERS=2", "--env", "ADDER_LOG_FORMAT=console", *options]
    refused = subprocess.run([*command, image], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    [line] = [line for line in refused.stderr.splitlines() if "[INFO]" not in line]
    assert line.startswith(error)


@pytest.mark.parametrize(
    "options",
    [
        ["--ipc", "none"],  # no /dev/shm
        # As Kubernetes with a Service named adder.
        ["--env", "ADDER_PORT=tcp://10.0.0.1:8000", "--env", "ADDER_PORT_8000_TCP_PORT=8000"],
        ["--env", "ADDER_PORT=", "--env", "PORT=8080"],
    ],
)
def test_the_container_is_healthy_in_other_surroundings(composed: Composed, options: list[str]) -> None:
    image = inspect(composed.container)["Image"]
    container = docker("run", "--detach", "--env", "ADDER_MODELS=last-digit", *options, image)
    try:
        until_healthy(container)
        assert ("is ignored, and the port is 8000" in docker("logs", container)) == ("tcp" in str(options))
    finally:
        docker("rm", "--force", container)


def test_a_quota_above_the_cores_of_the_machine_is_accepted(composed: Composed) -> None:
    """As on a machine of one core, where the engine refuses two."""
    host, cores = inspect(composed.container)["HostConfig"], int(docker("info", "--format", "{{.NCPU}}"))
    quota = cores * host["CpuQuota"]
    assert docker("run", "--rm", f"--cpu-quota={quota}", inspect(composed.container)["Image"], "true") == ""


def test_sigterm_stops_the_container_in_order(composed: Composed) -> None:
    image = inspect(composed.container)["Image"]
    container = docker("run", "--detach", "--read-only", "--env", "ADDER_MODELS=adder", image)
    try:
        until_healthy(container)
        docker("stop", container)
        assert inspect(container)["State"]["ExitCode"] == 0
    finally:
        docker("rm", "--force", container)
