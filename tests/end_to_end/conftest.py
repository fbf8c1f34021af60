"""Real gunicorn processes."""

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
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import pytest
import requests

from tests.conftest import ROOT, missing
from tests.environments import NoEnvironment, environment


def free_port() -> int:
    """A port that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Service:
    """gunicorn with its own port, in a process of its own."""

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
        """Wait for a condition, and fail with the log where it does not come."""
        end = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < end, self.log
            time.sleep(0.02)
        return self

    def ready(self) -> Self:
        """Wait until all workers are."""
        return self.until(lambda: "Ready with" in self.log)

    def workers(self) -> list[int]:
        """The process ids of the workers that have been booted."""
        return [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", self.log)]

    def get(self, path: str) -> requests.Response:
        """Whatever is there."""
        return requests.get(self.url + path, timeout=30)

    def post(self, path: str, body: Any) -> requests.Response:
        """JSON there, whatever back."""
        return requests.post(self.url + path, json=body, timeout=30)

    def send(self, request: bytes) -> bytes:
        """Raw bytes there, raw bytes back until the service closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            with suppress(OSError):  # the service may answer, and close, before it has been sent all
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
            received = b""
            while piece := connection.recv(65536):
                received += piece
            return received

    def stop(self) -> int:
        """Stop it in order, and give its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.exit_status()

    def exit_status(self) -> int:
        """Wait for its end."""
        status = self.process.wait(timeout=60)
        self._reader.join(timeout=10)
        return status


@pytest.fixture(scope="session")
def curl() -> None:
    """For tests that run it."""
    if not shutil.which("curl"):
        missing("curl")


@pytest.fixture
def start() -> Iterator[Callable[..., Service]]:
    """Start services that are gone when the test is."""
    services: list[Service] = []

    def begin(**settings: object) -> Service:
        services.append(Service(**settings))
        return services[-1]

    yield begin
    for service in services:
        service.process.kill()
        service.exit_status()


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """One that serves the shipped artifact with two workers, for tests that leave it as it is."""
    running = Service(workers=2).ready()
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log


@pytest.fixture(scope="session")
def artifacts(barely_trained: Path) -> Path:
    """The folder that holds the barely trained network as adder/1."""
    return barely_trained.parent.parent


@pytest.fixture(scope="session")
def ask_by(service: Service) -> Callable[[str], Any]:
    """Run a script of tests/clients, which are real clients of others, against the service, and give what it prints."""
    try:
        python = environment("clients", ROOT / "tests/clients/requirements.txt") / "bin" / "python"
    except NoEnvironment as problem:
        missing(f"the environment of tests/clients: {problem}")

    def ask(client: str) -> Any:
        script = ROOT / "tests" / "clients" / f"{client}.py"
        ran = subprocess.run([python, script, service.url], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    return ask
