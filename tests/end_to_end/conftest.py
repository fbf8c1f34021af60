"""Fixtures of tests against real gunicorn processes.

Three services are shared by the whole session, since each start takes seconds: `service`, `short_limits` and
`two_versions`. A test that changes a service for good starts its own with `start`.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import ROOT, missing
from tests.environments import NoEnvironment, environment

# The head of a raw request to /predict, for one request on a connection; the framing of its body follows.
PREDICT_HEAD = b"POST /predict HTTP/1.1\r\nHost: adder\r\nConnection: close\r\nContent-Type: application/json\r\n"


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Service:
    """gunicorn in a child process, on a port of its own."""

    def __init__(self, config: str = "service.gunicorn_conf", /, **settings: object) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        settings = {"port": self.port, "log_format": "console", **settings}
        variables = {f"ADDER_{name.upper()}": str(value) for name, value in settings.items()}
        self.log = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--config", f"python:{config}"],
            cwd=ROOT,
            env=os.environ | variables,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr:
            for line in self.process.stderr:
                self.log += line

    def until(self, condition: Callable[[], object], seconds: float = 60) -> Self:
        """Poll until the condition holds; fail with the log when the process ends or `seconds` are over."""
        end = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < end, self.log
            time.sleep(0.02)
        return self

    def ready(self) -> Self:
        """Wait until all workers are ready."""
        return self.until(lambda: "Ready with" in self.log)

    def workers(self) -> list[int]:
        """The process ids of all workers that were ever booted, in order."""
        return [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", self.log)]

    def metric_value(self, name: str, **labels: str) -> float:
        """Scrape /metrics and sum the samples of this name that have these labels."""
        families = text_string_to_metric_families(self.get("/metrics").text)
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def get(self, path: str) -> requests.Response:
        """GET a path."""
        return requests.get(self.url + path, timeout=30)

    def post(self, path: str, body: Any) -> requests.Response:
        """POST a JSON body to a path."""
        return requests.post(self.url + path, json=body, timeout=30)

    def connect(self) -> socket.socket:
        """Open a connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def send(self, request: bytes) -> bytes:
        """Send raw bytes, shut the connection for sending, and return what the service sends until it closes."""
        with self.connect() as connection:
            with suppress(OSError):  # the service may answer, and close, before it has received everything
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
            return receive_all(connection)

    def stop(self) -> int:
        """Send SIGTERM and return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.exit_status()

    def exit_status(self) -> int:
        """Wait for the end of the process and return its exit status."""
        status = self.process.wait(timeout=60)
        self._reader.join(timeout=10)
        return status


def receive_all(connection: socket.socket) -> bytes:
    """Receive until the other side closes the connection."""
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


Start = Callable[..., Service]


@contextmanager
def running(**settings: object) -> Iterator[Service]:
    """Run a service that is ready; at the end it must stop in order and have logged no traceback."""
    service = Service(**settings)
    try:
        yield service.ready()
        assert service.stop() == 0
        assert "Traceback" not in service.log
    finally:
        service.process.kill()
        service.exit_status()


@pytest.fixture(scope="session")
def curl() -> None:
    """Skip the test where curl is missing."""
    if not shutil.which("curl"):
        missing("curl")


@pytest.fixture
def start() -> Iterator[Start]:
    """Start services with the settings of a test; kill them when the test ends."""
    services: list[Service] = []

    def start_service(**settings: object) -> Service:
        services.append(Service(**settings))
        return services[-1]

    yield start_service
    for service in services:
        service.process.kill()
        service.exit_status()


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """All shipped models by two workers. Tests leave it as it is: no signal, no killed worker."""
    with running(workers=2) as service:
        yield service


@pytest.fixture(scope="session")
def short_limits() -> Iterator[Service]:
    """The shipped adder by one worker, with one second to receive a request and one to wait for the answer."""
    with running(workers=1, models="adder", receive_seconds=1, deadline_seconds=1) as service:
        yield service


@pytest.fixture(scope="session")
def two_versions(barely_trained: Path, shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """adder 1, barely trained, beside the newest shipped version, by two workers.

    A test may kill the worker that was booted last, and then waits until both workers are ready again.
    """
    artifacts = tmp_path_factory.mktemp("artifacts")
    (artifacts / "adder").mkdir()
    (artifacts / "adder" / "1").symlink_to(barely_trained)
    (artifacts / "adder" / shipped.name).symlink_to(shipped)
    with running(artifacts=artifacts, workers=2) as service:
        yield service


@pytest.fixture(scope="session")
def artifacts(barely_trained: Path) -> Path:
    """The folder that holds the barely trained model as adder/1."""
    return barely_trained.parent.parent


@pytest.fixture(scope="session")
def run_client(service: Service) -> Callable[[str], Any]:
    """Run a script of tests/clients against the service, with the real client it imports; return the JSON it prints."""
    try:
        python = environment("clients", ROOT / "tests/clients/requirements.txt") / "bin" / "python"
    except NoEnvironment as problem:
        missing(f"the environment of tests/clients: {problem}")

    def run(client: str) -> Any:
        script = ROOT / "tests" / "clients" / f"{client}.py"
        done = subprocess.run([python, script, service.url], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run
