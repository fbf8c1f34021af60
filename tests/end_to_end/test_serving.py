import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import requests

from service.models.artifact import Artifact
from tests.end_to_end.conftest import Service
from training import metadata

Start = Callable[..., Service]


@pytest.fixture(scope="module")
def queries() -> list[str]:
    numbers = random.Random(5)  # noqa: S311  not for secrets
    return [f"{numbers.randrange(1000)}+{numbers.randrange(1000)}" for _ in range(2000)]


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
    assert [each["character"] for each in answer["characters"]] == ["3", " "]
    first, end = (each["probability"] for each in answer["characters"])
    assert first * end == pytest.approx(answer["confidence"])


def test_under_load_each_answer_goes_to_its_own_caller(service: Service, shipped: Path, queries: list[str]) -> None:
    artifact = Artifact.load(shipped)
    expected = [artifact.predict([query])[0] for query in queries]
    session = requests.Session()
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=32))

    def ask(index: int) -> tuple[list[str], list[str]]:
        """Alone, or in a batch with up to 40 that follow."""
        count = index % 41
        some, right = queries[index : index + count], [each.answer for each in expected[index : index + count]]
        if count > 1:
            response = session.post(f"{service.url}/predict/batch", json={"queries": some}, timeout=30)
            return right, [each["answer"] for each in response.json()["predictions"]]
        response = session.post(f"{service.url}/predict", json={"query": queries[index]}, timeout=30)
        return [expected[index].answer], [response.json()["answer"]]

    with ThreadPoolExecutor(32) as threads:
        for right, answered in threads.map(ask, range(len(queries))):
            assert answered == right


def test_a_full_batch_is_answered_in_order(service: Service, shipped: Path, queries: list[str]) -> None:
    many, artifact = (queries * 3)[:4096], Artifact.load(shipped)
    predictions = service.post("/predict/batch", {"queries": many}).json()["predictions"]
    assert [each["query"] for each in predictions] == many
    assert [each["answer"] for each in predictions] == [artifact.predict([query])[0].answer for query in many]


def test_the_answer_is_what_the_network_says_right_or_wrong(start: Start, artifacts: Path) -> None:
    badly_trained = start(artifacts=artifacts, workers=1).ready()
    batch = [f"{number}+{number}" for number in range(100, 200)]
    predictions = badly_trained.post("/predict/batch", {"queries": batch}).json()["predictions"]
    wrong = [each for each in predictions if each["answer"] != str(2 * int(each["query"].split("+")[0]))]
    assert len(wrong) > 90
    assert predictions[0]["answer"] != "200"


@pytest.mark.usefixtures("curl")
def test_it_says_when_it_is_ready_and_what_to_try(service: Service, shipped: Path) -> None:
    assert service.log.count(f"Ready with adder version {shipped.name}, ") == 1
    [command] = re.findall(r"^  (curl .*)$", service.log, re.MULTILINE)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["answer"] == "579"


def test_who_connects_while_it_loads_waits_for_an_answer(start: Start, artifacts: Path) -> None:
    loading = start(artifacts=artifacts, workers=2)
    loading.until(lambda: "Listening" in loading.log)
    assert loading.post("/predict", {"query": "1+1"}).status_code == 200
    assert loading.get("/health/ready").status_code == 200


def test_tensorflow_has_no_remarks(service: Service) -> None:
    assert "oneDNN" not in service.log
    assert "absl" not in service.log


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda artifact: (artifact / "saved_model.pb").write_bytes(b""), "adder/1/saved_model.pb has changed since"),
        (lambda artifact: (artifact / "checksums.txt").unlink(), "adder/1/checksums.txt cannot be read: No such file"),
        (lambda artifact: artifact.rename(artifact.with_name("x")), "adder holds no version: export one, or set"),
    ],
)
def test_nothing_to_serve_is_one_line(
    start: Start, artifact: Path, break_it: Callable[[Path], object], message: str
) -> None:
    break_it(artifact)
    refused = start(artifacts=artifact.parent.parent, workers=1)
    assert refused.exit_status() == 1
    [line] = [line for line in refused.log.splitlines() if "[INFO]" not in line]
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ({"workers": "many"}, "error: ADDER_WORKERS is 'many': Input should be a valid integer"),
        (
            {"max_queued_queries": 5},
            "error: ADDER_MAX_QUEUED_QUERIES, 5, is below ADDER_MAX_BATCH_QUERIES, 8192: a full",
        ),
    ],
)
def test_a_bad_setting_is_one_line(start: Start, setting: dict[str, object], line: str) -> None:
    refused = start(**setting)
    assert refused.exit_status() == 1
    assert refused.log.startswith(line)
    assert len(refused.log.splitlines()) == 1


def test_forms_that_differ_are_not_served(start: Start, artifact: Path, shipped: Path) -> None:
    shutil.copy(shipped / "serving_bytes.tflite", artifact)
    metadata.write(artifact, metadata.read(shipped).model_copy(update={"version": 1}))
    refused = start(artifacts=artifact.parent.parent, workers=1)
    assert refused.exit_status() == 1
    assert f"error: {artifact} gives by LiteRT other probabilities than its SavedModel, by up to" in refused.log


def test_a_killed_worker_is_replaced_and_the_others_answer(start: Start, artifacts: Path) -> None:
    service = start(artifacts=artifacts, workers=2).ready()
    [victim, _] = service.workers()
    os.kill(victim, signal.SIGKILL)
    service.until(lambda: len(service.workers()) == 3)
    end = time.monotonic() + 10  # the new one loads meanwhile, and takes no connection before it can answer
    while time.monotonic() < end:
        assert service.post("/predict", {"query": "1+1"}).status_code == 200


def test_a_worker_that_cannot_load_leaves_the_connections_to_the_others(start: Start, artifact: Path) -> None:
    service = start(artifacts=artifact.parent.parent, workers=2).ready()
    (artifact / "serving_bytes.tflite").write_bytes(b"")
    [victim, _] = service.workers()
    os.kill(victim, signal.SIGKILL)
    service.until(lambda: "a model could not be loaded" in service.log)
    for _ in range(50):
        assert service.post("/predict", {"query": "1+1"}).status_code == 200


@pytest.mark.parametrize("pause_seconds", [0, 0.02])
def test_connections_are_shared_between_the_workers(start: Start, artifacts: Path, pause_seconds: float) -> None:
    service = start(artifacts=artifacts, workers=2).ready()

    def sockets(pid: int) -> int:
        count = 0
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # it has been closed meanwhile
                count += file.readlink().name.startswith("socket:")
        return count

    before = [sockets(pid) for pid in service.workers()]
    with ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(socket.create_connection(("127.0.0.1", service.port)))
            time.sleep(pause_seconds)
        service.until(lambda: sum(map(sockets, service.workers())) == sum(before) + 40)
        taken = [sockets(pid) - earlier for pid, earlier in zip(service.workers(), before, strict=True)]
        assert min(taken) >= 12, taken


def test_sigterm_answers_what_has_begun(start: Start, artifacts: Path, queries: list[str]) -> None:
    service = start(artifacts=artifacts, workers=1).ready()
    with ThreadPoolExecutor(8) as threads:
        begun = [threads.submit(service.post, "/predict/batch", {"queries": queries}) for _ in range(8)]
        service.until(lambda: any(each.done() for each in begun))
        assert service.stop() == 0
        assert [each.result().status_code for each in begun] == [200] * 8


def test_sigterm_answers_whoever_has_connected(start: Start, artifacts: Path) -> None:
    service = start(artifacts=artifacts, workers=2).ready()

    def ask_until_refused(_: int) -> list[bytes]:
        answers = []
        while True:
            try:
                with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
                    answers.append(b"")
                    connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    answers[-1] = connection.recv(65536)
            except ConnectionRefusedError:
                return answers
            except ConnectionResetError:
                continue

    with ThreadPoolExecutor(16) as threads:
        asking = threads.map(ask_until_refused, range(16))
        time.sleep(1)
        assert service.stop() == 0
        answers = [answer for each in asking for answer in each]
    assert len(answers) > 16
    # Between the last look at who waits and the closing of the socket, one may come.
    assert sum(not answer.startswith(b"HTTP/1.1 200") for answer in answers) <= 1
    assert "Traceback" not in service.log


def test_sigterm_while_loading_ends_at_once(start: Start, artifacts: Path) -> None:
    loading = start(artifacts=artifacts, workers=1)
    loading.until(lambda: "Booting worker" in loading.log)
    assert loading.stop() == 0


def test_a_port_that_is_taken_is_told(start: Start, service: Service) -> None:
    second = start(port=service.port, workers=1)
    assert second.exit_status() != 0
    assert f"Connection in use: ('127.0.0.1', {service.port})" in second.log
    assert "Traceback" not in second.log
