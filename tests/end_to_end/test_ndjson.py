import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.end_to_end.conftest import Service

LINES = {"content-type": "application/x-ndjson"}


def peak_megabytes(service: Service) -> float:
    """Of the worker that ever had the most memory."""
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in service.workers()]
    return max(int(peak) for text in texts for peak in re.findall(r"VmHWM:\s+(\d+) kB", text)) / 1000


@pytest.mark.usefixtures("curl")
def test_a_file_is_answered_line_by_line_in_constant_memory(service: Service, tmp_path: Path) -> None:
    queries = [f"{number % 1000}+{number * 7 % 1000}" for number in range(100_000)]
    file = tmp_path / "queries.ndjson"
    file.write_text("".join(f'{{"query":"{query}"}}\n' for query in queries))
    few = {"queries": queries[:8192]}
    expected = [each["answer"] for each in service.post("/predict/batch", few).json()["predictions"]]
    before = peak_megabytes(service)
    command = ["curl", "-sS", service.url + "/predict/batch", "-H", f"content-type: {LINES['content-type']}"]
    sent = subprocess.run([*command, "--data-binary", f"@{file}"], capture_output=True, check=True)
    answers = [json.loads(line) for line in sent.stdout.splitlines()]
    assert [answer["query"] for answer in answers] == queries
    assert [answer["answer"] for answer in answers[:8192]] == expected
    assert peak_megabytes(service) < before + 10  # the body has 2 MB, the answer 17


@pytest.fixture(scope="module")
def impatient() -> Iterator[Service]:
    """Gives a request no more than a second for anything."""
    running = Service(workers=1, models="adder", receive_seconds=1, deadline_seconds=1).ready()
    yield running
    assert running.stop() == 0


def test_it_may_take_longer_than_a_request_may(impatient: Service) -> None:
    def slowly() -> Iterator[bytes]:
        for _ in range(8):
            yield b'{"query":"1+2"}\n' * 1024
            time.sleep(0.5)

    answered = requests.post(impatient.url + "/predict/batch", data=slowly(), headers=LINES, timeout=30)
    assert [json.loads(line)["answer"] for line in answered.iter_lines()] == ["3"] * 8192


def test_who_stops_sending_is_told_behind_the_answers(impatient: Service) -> None:
    head = "POST /predict/batch HTTP/1.1\r\nHost: adder\r\nContent-Type: application/x-ndjson\r\nContent-Length: 99999"
    with socket.create_connection(("127.0.0.1", impatient.port), timeout=20) as client:
        client.sendall(head.encode() + b"\r\n\r\n" + b'{"query":"1+2"}\n' * 300)
        received = b""
        while piece := client.recv(65536):
            received += piece
    assert received.count(b'"answer":"3"') == 256  # as many as were read at once
    assert b"/problems/incomplete" in received
