"""One server at a time, and nothing left of it."""

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
    """A server does not do what it was started for."""


class Target(NamedTuple):
    """Where a query is answered, and how."""

    url: str
    body: str
    answer: tuple[str | int, ...]

    def ask(self, query: str) -> str:
        """The answer to one query."""
        body, headers = self.body % query, {"content-type": "application/json"}
        response = requests.post(self.url, body, headers=headers, timeout=30)
        response.raise_for_status()
        found = response.json()
        for step in self.answer:
            found = found[step]
        return str(found)


@contextmanager
def ours(workers: int) -> Iterator[Target]:
    """This service, as its end-to-end tests start it."""
    with _all_ended():
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

    Raises NoEnvironment, or NotServed where it does not come to answer.
    """
    programs = environment(peer.requirements) / "bin"
    with tempfile.TemporaryDirectory(prefix="peer-", ignore_cleanup_errors=True) as folder, _all_ended():
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
    # What tests.conftest sets for this service's TensorFlow is not for theirs.
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
            raise NotServed(f"it ended while starting: {_last_words(log)}")
        with suppress(requests.RequestException):
            return bool(target.ask("123+456"))
        return False

    if not _until(answers, STARTING_SECONDS):
        raise NotServed(f"it did not answer within {STARTING_SECONDS} s: {_last_words(log)}")


def _last_words(log: Path) -> str:
    """The last line that names an error, or the last at all."""
    lines = [line.strip()[:300] for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "Error: " in line), lines[-1] if lines else "it said nothing")


def _until_idle() -> None:
    """Wait until the last worker is warm too: a second in which the server takes less than half a core."""

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
def _all_ended() -> Iterator[None]:
    """End every process that was started within, whatever group or session it has put itself into."""
    # Those whose parent is gone become children of this process, so that all can be found.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        _until(lambda: not _descendants(), ENDING_SECONDS)
        while left := _descendants():
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)


class _Status(NamedTuple):
    parent: int
    cpu_seconds: float


def _descendants() -> dict[int, _Status]:
    """The living processes below this one."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:  # those that have ended
            pass
    all_of_them: dict[int, _Status] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            fields = status.read_text().rpartition(")")[2].split()
            all_of_them[int(status.parent.name)] = _Status(int(fields[1]), (int(fields[11]) + int(fields[12])) / TICKS)
    found, generation = dict[int, _Status](), {os.getpid()}
    while generation:
        generation = {pid for pid, status in all_of_them.items() if status.parent in generation}
        found |= {pid: all_of_them[pid] for pid in generation}
    return found


def _cpu_seconds() -> float:
    return sum(status.cpu_seconds for status in _descendants().values())
