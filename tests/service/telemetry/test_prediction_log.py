import json
import resource
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from service.models.batcher import BatchResult
from service.models.engines.model_output import ModelOutput
from service.telemetry import prediction_log
from service.telemetry.prediction_log import PredictionLog
from tests.conftest import ROOT
from tests.service.conftest import StandIn, app_of


def result(*answers: str) -> BatchResult[ModelOutput]:
    outputs = [ModelOutput(answer, 0.25, np.zeros([4, 12], np.float32)) for answer in answers]
    return BatchResult(outputs, queue_seconds=0.001, inference_seconds=0.0005, batch_size=len(answers))


class Log:
    """A log in a folder, and the number of queries that it has dropped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dropped = 0
        self.log = PredictionLog(folder, 3, self._drop)

    def _drop(self, _model: tuple[str, str], queries: int) -> None:
        self.dropped += queries

    def add(self, *queries: str) -> None:
        self.log.add("an-id", ("adder", "2"), list(queries), result(*queries))

    def written(self) -> list[dict[str, object]]:
        """Wait until all is written, and return the lines of all files, the newest first."""
        self.log._pieces.join()
        files = sorted(self.folder.glob("predictions-3.ndjson*"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_each_answer_is_a_line(tmp_path: Path) -> None:
    log = Log(tmp_path / "new" / "folder")
    log.add("1+2", "3+4")
    first, second = log.written()
    assert str(first.pop("time")).startswith("20")
    assert first == {
        "request_id": "an-id",
        "model": "adder",
        "version": 2,
        "query": "1+2",
        "answer": "1+2",
        "confidence": 0.25,
        "milliseconds": 1.5,
    }
    assert second["query"] == "3+4"


def test_the_files_are_rotated_and_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_log, "FILE_BYTES", 1000)
    log = Log(tmp_path)
    for number in range(100):
        log.add(f"{number}+1")
    lines = log.written()
    assert len(list(tmp_path.iterdir())) == 4
    assert all(file.stat().st_size <= 1000 for file in tmp_path.iterdir())
    assert lines[-1]["query"] != "0+1"
    assert {"99+1", "98+1"} <= {line["query"] for line in lines}


def test_a_slow_disk_delays_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()
    monkeypatch.setattr(prediction_log._File, "write", lambda *_: free.wait())
    log = Log(tmp_path)
    log.add(*["1+2"] * prediction_log.PIECE * (prediction_log.MAX_PIECES + 10))
    assert log.dropped >= prediction_log.PIECE * 9
    free.set()
    log.written()


FULL = """
import resource, signal, sys
from pathlib import Path
from service.telemetry import prediction_log
from tests.service.telemetry.test_prediction_log import Log
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
log = Log(Path(sys.argv[1]))
for number in range(100):
    log.add(f"{number}+1")
log.log._pieces.join()
full = log.dropped
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.add("7+7")
log.log._pieces.join()
print(full, log.dropped)
"""


def test_a_full_disk_drops_and_counts(tmp_path: Path) -> None:
    """As a limit of the size of files says it, in a process of its own."""
    assert resource.RLIMIT_FSIZE is not None
    ran = subprocess.run([sys.executable, "-c", FULL, tmp_path], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.stderr == ""
    full, after = map(int, ran.stdout.split())
    assert 90 < full < 100
    assert after == full
    assert '"query":"7+7"' in (tmp_path / "predictions-3.ndjson").read_text().splitlines()[-1]


def test_a_folder_that_cannot_be_written_harms_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    log = Log(tmp_path / "file")
    log.add("1+2")
    assert log.written() == []
    assert log.dropped == 1


def test_every_route_logs_what_it_answers(tmp_path: Path) -> None:
    client = app_of(StandIn(), tmp_path, prediction_log=str(tmp_path / "log")).test_client()
    headers = {"X-Request-ID": "mine"}
    client.post("/predict", json={"query": "1+2"}, headers=headers)
    client.post("/predict/batch", json={"queries": ["2+2", "3+2"]})
    client.post("/predict/batch", data='{"query":"4+2"}\n{"query":"x"}\n', content_type="application/x-ndjson")
    client.post("/predict/stream", json={"query": "5+2"})
    client.post("/v1/models/adder:predict", json={"instances": ["6+2"]})
    client.post("/predict", json={"query": "no query"})
    file = tmp_path / "log" / "predictions-0.ndjson"

    def lines() -> list[dict[str, object]]:
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    end = threading.Event()
    for _ in range(1000):
        if len(lines()) >= 6:
            break
        end.wait(0.01)
    assert [line["query"] for line in lines()] == [f"{number}+2" for number in range(1, 7)]
    assert lines()[0]["request_id"] == "mine"
    assert "adder_predictions_not_logged_total{" not in client.get("/metrics").text
