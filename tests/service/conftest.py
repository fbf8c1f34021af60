"""A stand-in for a model, so that its surroundings are tested without an artifact, and a clock for tests to set."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import gevent
import numpy as np
import numpy.typing as npt
import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from service.app import create_app
from service.models.catalog import survey
from service.models.engines.model_output import ModelOutput
from service.models.metadata import Evidence, Golden, Margin, Metadata, Part, Rule, Task
from service.settings import Settings

TASK = Task(
    alphabet="0123456789+ ",
    end=" ",
    query_pattern=r"^ *(0|[1-9][0-9]{0,2}) *(\+) *(0|[1-9][0-9]{0,2}) *$",
    rules=[
        Rule(
            pattern="(?<![0-9])0+([0-9]+)",
            sentence="the operand {match} has a leading zero: write it without",
            replacement=r"\1",
        ),
        Rule(pattern="[0-9]{4,}", sentence="the operand {match} is too large: 999 is the largest"),
    ],
    hint="two whole numbers with one '+' between them, each at most 999",
    example="123+456",
    truth="sum",
)

METADATA = Metadata(
    format_version=5,
    name="adder",
    version=1,
    architecture="repeat_vector",
    task=TASK,
    batch_sizes=[1, 8],
    golden=[Golden(query="123+456", answer="579")],
    evidence=None,
)

HALF = Part(queries=4, wrong=2, exact_match=0.5)
EVIDENCE = Evidence(
    domain=HALF,
    is_sample=False,
    train=HALF,
    validation=HALF,
    held_out=HALF,
    calibration_error=0.25,
    margin=Margin(query="1+2", smallest=0.125),
)

SHA256 = "5f" * 32


def tensor_info(dtype: str, *shape: int) -> dict[str, Any]:
    """A TensorInfo, as protobuf writes it in JSON."""
    dimensions = [{"size": str(size), "name": ""} for size in shape]
    return {"name": "it:0", "dtype": dtype, "tensor_shape": {"dim": dimensions, "unknown_rank": False}}


class StandIn:
    """An artifact and its engine, which answers a query with the first operand: neither a sum nor the answer of another
    query.

    Each character of the answer has a probability of a half; the others have less, in the order of the alphabet.
    """

    metadata = METADATA
    sha256 = SHA256
    name = "litert"
    answer_length = 4
    signature_def: ClassVar[dict[str, Any]] = {
        "inputs": {"query": tensor_info("DT_STRING", -1)},
        "outputs": {
            "answer": tensor_info("DT_STRING", -1),
            "confidence": tensor_info("DT_FLOAT", -1),
            "probabilities": tensor_info("DT_FLOAT", -1, 4, 12),
        },
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }

    @property
    def engine(self) -> "StandIn":
        return self

    def predict(self, queries: list[str]) -> list[ModelOutput]:
        return [self.answer(query) for query in queries]

    def answer(self, query: str) -> ModelOutput:
        answer = query.split("+")[0][:4]  # also of a query in which /explain has hidden a character
        probabilities = np.tile(np.linspace(0.06, 0.03, 12, dtype=np.float32), (4, 1))
        probabilities[range(4), [TASK.alphabet.index(character) for character in answer.ljust(4)]] = 0.5
        return ModelOutput(answer, 0.5 ** min(len(answer) + 1, 4), probabilities)

    def decode(self, query: str) -> Iterator[npt.NDArray[np.float32]]:
        answer, _, probabilities = self.answer(query)
        yield from probabilities[: len(answer) + 1]

    def states(self, query: str, answer: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """The length of the query, and the number of characters that are decoded."""
        return np.array([[len(query), step] for step in range(len(answer) + 1)], np.float32)

    def k_best(self, query: str, k: int) -> list[tuple[str, float]]:
        """The answer and the numbers after it, each half as probable as the number before it."""
        answer, confidence, _ = self.answer(query)
        return [(str(int(answer) + place), confidence / 2**place) for place in range(k)]


class Failing(StandIn):
    def predict(self, queries: list[str]) -> list[ModelOutput]:
        raise RuntimeError(queries)


class WholeClient(FlaskClient):
    """Reads each response to its end: the context of a stream that is left would be popped in another test."""

    def open(self, *args: Any, buffered: bool = True, **kwargs: Any) -> TestResponse:
        return super().open(*args, buffered=buffered, **kwargs)


def app_loading(load: Callable[[Path], Any], tmp_path: Path, *folders: str, **settings: Any) -> Flask:
    """An application that has loaded the versions in these folders."""
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    read = Settings(artifacts=tmp_path, **settings)
    app = create_app(read, lambda folder, _signature_def: load(folder))
    app.test_client_class = WholeClient
    app.extensions["repository"].load(survey(read, lambda folder: str(load(folder).sha256)))
    return app


def app_of(artifact: Any, tmp_path: Path, **settings: Any) -> Flask:
    """An application that has loaded `artifact`."""
    return app_loading(lambda _: artifact, tmp_path, "adder/1", **settings)


@pytest.fixture
def client(tmp_path: Path) -> FlaskClient:
    return app_of(StandIn(), tmp_path, max_batch_queries=10, max_body_bytes=1000).test_client()


@pytest.fixture
def broken_client(tmp_path: Path) -> FlaskClient:
    """The client of an application that has no model."""
    return create_app(Settings(artifacts=tmp_path)).test_client()


def with_task(**changes: Any) -> Metadata:
    """METADATA with some fields of its task changed."""
    return METADATA.model_copy(update={"task": Task(**TASK.model_dump() | changes)})


def edit_metadata(artifact: Path, **changes: Any) -> None:
    """Change the metadata and its checksum: an artifact that was exported with these values."""
    file, checksums = artifact / "metadata.json", artifact / "checksums.txt"
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    checksums.write_text(checksums.read_text().replace(before, hashlib.sha256(file.read_bytes()).hexdigest()))


def edit_task(artifact: Path, **changes: Any) -> None:
    """Change the task in the metadata, as `edit_metadata` does."""
    edit_metadata(artifact, task=json.loads((artifact / "metadata.json").read_text())["task"] | changes)


def remove_files(artifact: Path, *names: str) -> None:
    """Remove files and their checksums: an artifact that was exported without them."""
    for name in names:
        (artifact / name).unlink()
    lines = (artifact / "checksums.txt").read_text().splitlines(keepends=True)
    (artifact / "checksums.txt").write_text("".join(line for line in lines if line.split()[1] not in names))


class Clock:
    """A clock that stands still until a test advances it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def wait_until(condition: Callable[[], bool]) -> None:
    """Run the event loop until the condition holds. Raises gevent.Timeout after 10 seconds."""
    with gevent.Timeout(10):
        while not condition():
            gevent.sleep(0.001)


def polls_during(function: Callable[[], object]) -> int:
    """How often the event loop polls its sockets while a function runs."""
    loop = gevent.get_hub().loop
    idle = loop.idle()
    idle.start(int)  # the loop does not sleep until its next timer, so that a wait for a timer is many polls
    try:
        before = loop.iteration
        function()
        return int(loop.iteration - before)
    finally:
        idle.close()
