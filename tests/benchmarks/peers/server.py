"""Starts one server at a time, and ends all of its processes."""

import ctypes
import os
import shlex
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import requests

from tests.benchmarks.machine import TICKS
from tests.benchmarks.peers.environment import environment
from tests.benchmarks.peers.peer import Peer
from tests.conftest import ROOT
from tests.end_to_end.conftest import Service

PR_SET_CHILD_SUBREAPER = 36
STARTING_SECONDS = 180
ENDING_SECONDS = 15


class NotServed(Exception):
    """A server does not start, or does not answer."""


class Target(NamedTuple):
    """The endpoint of a server. `answer` is the path of the answer in the JSON of a response."""

    url: str
    body: str
    answer: tuple[str | int, ...]

    def predict(self, query: str) -> str:
        """The answer to one query."""
        body, headers = self.body % query, {"content-type": "application/json"}
        response = requests.post(self.url, body, headers=headers, timeout=30)
        response.raise_for_status()
        value = response.json()
        for key in self.answer:
            value = value[key]
        return str(value)


@contextmanager
def ours(workers: int) -> Iterator[Target]:
    """This service, started as by the end-to-end tests."""
    with _ending_all():
        service = Service(workers=workers)
        try:
            service.ready()
            _until_idle()
            yield Target(f"{service.url}/predict", '{"query":"%s"}', ("answer",))
        finally:
            service.process.terminate()


@contextmanager
def serving(peer: Peer, saved_model: Path) -> Iterator[Target]:
    """A peer, in a process group of its own.

    Raises NoEnvironment, or NotServed if it does not answer in time.
    """
    programs = environment(peer.requirements) / "bin"
    with tempfile.TemporaryDirectory(prefix="peer-", ignore_cleanup_errors=True) as folder, _ending_all():
        ports = _free_ports(4)

        def filled(text: str) -> str:
            return text.format(ports=ports, folder=folder, libraries=sysconfig.get_config_var("LIBDIR"))

        program, *arguments = shlex.split(filled(peer.command))
        target = Target(f"http://127.0.0.1:{ports[0]}{peer.path}", peer.body, peer.answer)
        log = Path(folder, "log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [programs / program, *arguments],
                cwd=folder,
                env=_variables(programs, saved_model) | {name: filled(text) for name, text in peer.variables.items()},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            _until_answering(target, process, log)
            _until_idle()
            yield target
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)


def _variables(programs: Path, saved_model: Path) -> dict[str, str]:
    # Without the TF_ variables that tests.conftest sets for this service.
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("ADDER_", "TF_"))}
    return kept | {
        "ADDER_SAVED_MODEL": str(saved_model),
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }


def _free_ports(count: int) -> list[int]:
    with ExitStack() as probes:
        sockets = [probes.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in sockets]


def _until_answering(target: Target, process: subprocess.Popen[bytes], log: Path) -> None:
    def answers() -> bool:
        if process.poll() is not None:
            raise NotServed(f"it ended while starting: {_last_error(log)}")
        with suppress(requests.RequestException):
            return bool(target.predict("123+456"))
        return False

    if not _until(answers, STARTING_SECONDS):
        raise NotServed(f"it did not answer within {STARTING_SECONDS} s: {_last_error(log)}")


def _last_error(log: Path) -> str:
    """The last line that names an error, or else the last line."""
    lines = [line.strip()[:300] for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "Error: " in line), lines[-1] if lines else "it logged nothing")


def _until_idle() -> None:
    """Wait for a second in which the server uses less than half a core: then all of its workers are warm."""

    def idle() -> bool:
        before = _cpu_seconds()
        time.sleep(1)
        return _cpu_seconds() - before < 0.5

    _until(idle, STARTING_SECONDS)


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


@contextmanager
def _ending_all() -> Iterator[None]:
    """End every process that was started in this context, in any process group or session."""
    # Processes whose parent has ended become children of this process, and are found among its descendants.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        _until(lambda: not _descendants(), ENDING_SECONDS)
        while remaining := _descendants():
            for pid in remaining:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)


class _Status(NamedTuple):
    parent: int
    cpu_seconds: float


def _descendants() -> dict[int, _Status]:
    """The living descendants of this process."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:  # reap children that have ended
            pass
    processes: dict[int, _Status] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            fields = status.read_text().rpartition(")")[2].split()
            processes[int(status.parent.name)] = _Status(int(fields[1]), (int(fields[11]) + int(fields[12])) / TICKS)
    found, generation = dict[int, _Status](), {os.getpid()}
    while generation:
        generation = {pid for pid, status in processes.items() if status.parent in generation}
        found |= {pid: processes[pid] for pid in generation}
    return found


def _cpu_seconds() -> float:
    return sum(status.cpu_seconds for status in _descendants().values())
