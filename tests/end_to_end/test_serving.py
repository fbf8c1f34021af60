"""Starting, answering under load, losing a worker, stopping."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import requests

from service.models.artifact import Artifact
from tests.end_to_end.conftest import Service, Start
from training import metadata

LISTEN = "0A"  # a state in /proc/net/tcp


@pytest.fixture(scope="module")
def queries() -> list[str]:
    numbers = random.Random(5)  # noqa: S311  not for secrets
    return [f"{numbers.randrange(1000)}+{numbers.randrange(1000)}" for _ in range(2000)]


@pytest.fixture(scope="module")
def expected(shipped: Path, queries: list[str]) -> list[str]:
    """The answers to `queries`, each computed alone."""
    artifact = Artifact.load(shipped)
    return [artifact.engine.predict([query])[0].answer for query in queries]


def test_a_query_is_answered(service: Service, shipped: Path) -> None:
    response = service.post("/predict", {"query": "123+456"})
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    answer = response.json()
    assert answer.pop("confidence") == pytest.approx(1, abs=0.05)
    del answer["model"]["sha256"]
    assert answer == {"query": "123+456", "answer": "579", "model": {"name": "adder", "version": int(shipped.name)}}


def test_characters_multiply_to_the_confidence(service: Service) -> None:
    answer = service.post("/predict", {"query": "1+2", "characters": True}).json()
    assert [each["character"] for each in answer["characters"]] == ["3", ""]
    first, end = (each["probability"] for each in answer["characters"])
    assert first * end == pytest.approx(answer["confidence"])


def test_each_client_gets_its_own_answers_under_load(service: Service, queries: list[str], expected: list[str]) -> None:
    session = requests.Session()
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=32))

    def ask(index: int) -> tuple[list[str], list[str]]:
        """Send a query alone, or in a batch with up to 40 that follow it."""
        count = index % 41
        if count > 1:
            batch = {"queries": queries[index : index + count]}
            response = session.post(f"{service.url}/predict/batch", json=batch, timeout=30)
            return expected[index : index + count], [each["answer"] for each in response.json()["predictions"]]
        response = session.post(f"{service.url}/predict", json={"query": queries[index]}, timeout=30)
        return [expected[index]], [response.json()["answer"]]

    with session, ThreadPoolExecutor(32) as threads:
        for right, answered in threads.map(ask, range(len(queries))):
            assert answered == right


def test_a_full_batch_is_answered_in_order(service: Service, queries: list[str], expected: list[str]) -> None:
    predictions = service.post("/predict/batch", {"queries": (queries * 3)[:4096]}).json()["predictions"]
    assert [each["query"] for each in predictions] == (queries * 3)[:4096]
    assert [each["answer"] for each in predictions] == (expected * 3)[:4096]


def test_wrong_answers_of_the_model_are_not_corrected(two_versions: Service) -> None:
    batch = [f"{number}+{number}" for number in range(100, 200)]
    answered = two_versions.post("/predict/batch", {"queries": batch, "version": 1})
    predictions = answered.json()["predictions"]
    wrong = [each for each in predictions if each["answer"] != str(2 * int(each["query"].split("+")[0]))]
    assert len(wrong) > 90
    assert predictions[0]["answer"] != "200"


@pytest.mark.usefixtures("curl")
def test_the_log_says_ready_once_with_a_command_that_works(service: Service, shipped: Path) -> None:
    assert service.log.count(f"Ready with adder version {shipped.name}, ") == 1
    assert service.log.count(f"Checking {len(list(shipped.parent.parent.glob('*/[0-9]*')))} versions") == 1
    [command] = re.findall(r"^  (curl .*)$", service.log, re.MULTILINE)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["answer"] == "579"


def test_tensorflow_writes_nothing_to_the_log(service: Service) -> None:
    assert "oneDNN" not in service.log
    assert "absl" not in service.log


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda artifact: (artifact / "saved_model.pb").write_bytes(b""), "adder/1/saved_model.pb has changed since"),
        (lambda artifact: (artifact / "checksums.txt").unlink(), "adder/1/checksums.txt cannot be read: No such file"),
        (lambda artifact: artifact.rename(artifact.with_name("x")), "adder has no version: export one, or set"),
    ],
)
def test_nothing_to_serve_is_reported_in_one_line(
    start: Start, artifact: Path, break_it: Callable[[Path], object], message: str
) -> None:
    break_it(artifact)
    refused = start(artifacts=artifact.parent.parent, workers=1)
    assert refused.exit_status() == 1
    [line] = [line for line in refused.log.splitlines() if "[INFO]" not in line]
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"ADDER_WORKERS": "many"}, "error: ADDER_WORKERS is 'many': Input should be a valid integer"),
        (
            {"ADDER_MAX_QUEUED_QUERIES": "5"},
            "error: ADDER_MAX_QUEUED_QUERIES, 5, is below ADDER_MAX_BATCH_QUERIES, 8192: a full",
        ),
        ({"ADDER_WORKRES": "4"}, "error: ADDER_WORKRES is not a setting: the nearest is ADDER_WORKERS"),
        ({"SCRIPT_NAME": "/adder"}, "error: SCRIPT_NAME is '/adder', and the paths of the service start at the root"),
        ({"GUNICORN_CMD_ARGS": "--workers 3"}, "error: gunicorn's --workers, on its command line or in GUNICORN_CMD_"),
        ({"GUNICORN_CMD_ARGS": "-b :1 -k sync"}, "error: gunicorn's --bind, on its command line or in GUNICORN_CMD_A"),
        ({"FORWARDED_ALLOW_IPS": "proxy"}, "Error: 'proxy' does not appear to be an IPv4 or IPv6 network"),
        ({"ADDER_HOST": "http://localhost"}, "error: ADDER_HOST is 'http://localhost', which is neither an address"),
        ({"ADDER_HOST": "no-such.invalid"}, "error: ADDER_HOST is 'no-such.invalid', which is neither an address"),
        ({"ADDER_HOST": "a" * 70}, f"error: ADDER_HOST is '{'a' * 70}', which is neither an address"),
        ({"ADDER_HOST": "192.0.2.1"}, "error: 192.0.2.1:"),  # an address of no machine
    ],
)
def test_a_bad_setting_is_reported_in_one_line(
    start: Start, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], line: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    refused = start()
    assert refused.exit_status() == 1
    [said] = [each for each in refused.log.splitlines() if each and "[INFO]" not in each]
    assert said.startswith(line)
    assert "Checking" not in refused.log


def test_a_model_unlike_its_saved_model_is_not_served(start: Start, artifact: Path, shipped: Path) -> None:
    shutil.copy(shipped / "serving_bytes.tflite", artifact)
    metadata.write(artifact, metadata.read(shipped).model_copy(update={"version": 1}))
    refused = start(artifacts=artifact.parent.parent, workers=1)
    assert refused.exit_status() == 1
    assert f"error: {artifact}: probabilities by litert differ from the SavedModel's by up to" in refused.log


def test_a_killed_worker_is_replaced_while_others_answer(two_versions: Service) -> None:
    workers = two_versions.workers()

    def is_replaced() -> bool:
        # The new worker loads its models meanwhile, and takes no connection before it can answer.
        assert two_versions.post("/predict", {"query": "1+1"}).status_code == 200
        has_booted = len(two_versions.workers()) == len(workers) + 1
        return has_booted and two_versions.metric_value("adder_workers_ready") == 2

    os.kill(workers[-1], signal.SIGKILL)
    two_versions.until(is_replaced)


def test_the_metrics_of_the_workers_are_right_after_any_signal(start: Start, artifacts: Path) -> None:
    service = start(artifacts=artifacts, workers=2).ready()
    cpu_seconds = 0.0

    def are(workers: int) -> bool:
        nonlocal cpu_seconds
        before, cpu_seconds = cpu_seconds, service.metric_value("process_cpu_seconds_total")
        assert cpu_seconds >= before  # a worker that has ended stays in the sum
        counted = [service.metric_value(name) for name in ("adder_workers", "adder_workers_ready")]
        return counted == [workers, workers]

    service.until(lambda: are(2))
    booted = 2
    for signal_number, workers, more in (
        (signal.SIGHUP, 2, 0),
        (signal.SIGTTIN, 3, 1),
        (signal.SIGHUP, 3, 0),
        (signal.SIGTTOU, 2, 0),
        (signal.SIGTTOU, 1, 0),
        (signal.SIGTTIN, 2, 1),
    ):
        service.process.send_signal(signal_number)
        booted += more
        service.until(lambda: len(service.workers()) == booted and are(workers))  # noqa: B023  called here
    for signal_number in (signal.SIGKILL, signal.SIGTERM):
        ended = service.workers()[-1]
        os.kill(ended, signal_number)
        service.until(lambda: not Path(f"/proc/{ended}").exists())  # noqa: B023  it may have accepted the next request
        booted += 1
        service.until(lambda: len(service.workers()) == booted and are(2))  # noqa: B023  called here


def test_a_worker_that_cannot_load_takes_no_connection(start: Start, artifact: Path) -> None:
    service = start(artifacts=artifact.parent.parent, workers=2).ready()
    (artifact / "serving_bytes.tflite").write_bytes(b"")
    [victim, _] = service.workers()
    os.kill(victim, signal.SIGKILL)
    service.until(lambda: "no model could be loaded" in service.log)
    for _ in range(50):
        assert service.post("/predict", {"query": "1+1"}).status_code == 200


def connections(service: Service) -> list[int]:
    """Count the connections that each worker has accepted and not closed."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    accepted = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{service.port:04X}") and row[3] != LISTEN}

    def count(pid: int) -> int:
        held = set()
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed since
                held.add(file.readlink().name)
        return len(held & accepted)

    return [count(pid) for pid in service.workers()]


def until_accepted(service: Service, count: int) -> None:
    service.until(lambda: sum(connections(service)) == count)


@pytest.mark.parametrize("at_once", [True, False])
def test_connections_are_shared_between_the_workers(service: Service, at_once: bool) -> None:
    until_accepted(service, 0)  # earlier tests leave some that are closing
    with ExitStack() as stack:
        for opened in range(1, 41):
            stack.enter_context(service.connect())
            if not at_once:
                until_accepted(service, opened)
        until_accepted(service, 40)
        assert min(connections(service)) >= 12


def test_sigterm_answers_begun_requests_and_cleans_up(start: Start, artifacts: Path, queries: list[str]) -> None:
    service = start(artifacts=artifacts, workers=1).ready()
    mapped = Path(f"/proc/{service.workers()[0]}/maps").read_text().splitlines()
    [metrics] = {Path(line.split()[-1]).parent for line in mapped if line.endswith(".db")}
    assert metrics.is_dir()
    with ThreadPoolExecutor(8) as threads:
        batches = [threads.submit(service.post, "/predict/batch", {"queries": queries}) for _ in range(8)]
        service.until(lambda: any(each.done() for each in batches))
        assert service.stop() == 0
        assert [each.result().status_code for each in batches] == [200] * 8
    assert not metrics.exists()


def test_every_connection_is_answered_from_listen_to_stop(start: Start, artifacts: Path) -> None:
    service = start(artifacts=artifacts, workers=2)
    service.until(lambda: "Listening" in service.log)
    assert service.post("/predict", {"query": "1+1"}).status_code == 200
    assert service.get("/health/ready").status_code == 200
    answered: list[bool] = []

    def ask_until_refused(_: int) -> None:
        while True:
            try:
                with service.connect() as connection:
                    answer = b""
                    try:
                        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                        answer = connection.recv(65536)
                    finally:
                        answered.append(answer.startswith(b"HTTP/1.1 200"))
            except ConnectionRefusedError:
                return
            except ConnectionResetError:
                continue

    with ThreadPoolExecutor(16) as threads:
        asking = threads.map(ask_until_refused, range(16))
        service.ready().until(lambda: len(answered) > 100)
        assert service.stop() == 0
        list(asking)
    # One may come between the last accept and the closing of the socket.
    assert answered.count(False) <= 1
    assert "Traceback" not in service.log


def test_sigterm_while_loading_ends_at_once(start: Start, artifacts: Path) -> None:
    loading = start(artifacts=artifacts, workers=1)
    loading.until(lambda: "Booting worker" in loading.log)
    assert loading.stop() == 0


def test_a_port_that_is_taken_is_reported_in_one_line(start: Start, service: Service) -> None:
    second = start(port=service.port)
    assert second.exit_status() == 1
    [line] = [each for each in second.log.splitlines() if "[INFO]" not in each]
    assert line == (
        f"error: 127.0.0.1:{service.port} cannot be listened on: Address already in use: set ADDER_HOST and ADDER_PORT"
    )


def test_gunicorn_reads_its_own_variables(start: Start, artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--access-logfile /dev/stderr")
    monkeypatch.setenv("WEB_CONCURRENCY", "1")
    monkeypatch.setenv("ADDER_MODELS", "")
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "10.0.0.0/8")
    service = start(artifacts=artifacts, host="[::1]")
    service.url = f"http://[::1]:{service.port}"
    assert service.ready().get("/health/ready").status_code == 200
    service.until(lambda: '"GET /health/ready HTTP/1.1" 200' in service.log)
    assert len(service.workers()) == 1
