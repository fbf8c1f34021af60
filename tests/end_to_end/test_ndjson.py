import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from tests.end_to_end.conftest import Service

LINES = {"content-type": "application/x-ndjson"}
HEAD = b"POST /predict/batch HTTP/1.1\r\nHost: adder\r\nContent-Type: application/x-ndjson\r\n"


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
def hasty() -> Iterator[Service]:
    """One worker that gives nobody much time."""
    service = Service(workers=1, models="adder", receive_seconds=1, deadline_seconds=1).ready()
    yield service
    assert service.stop() == 0


def test_it_may_take_longer_than_a_request_may(hasty: Service) -> None:
    def slowly() -> Iterator[bytes]:
        for _ in range(8):
            yield b'{"query":"1+2"}\n' * 1024
            time.sleep(0.5)

    answered = requests.post(hasty.url + "/predict/batch", data=slowly(), headers=LINES, timeout=30)
    assert [json.loads(line)["answer"] for line in answered.iter_lines()] == ["3"] * 8192


@pytest.mark.parametrize("framing", ["Content-Length: 48", "Transfer-Encoding: chunked"])
def test_a_line_is_answered_before_the_next_is_sent(hasty: Service, framing: str) -> None:
    line, is_chunked = b'{"query":"1+2"}\n', "chunked" in framing
    with socket.create_connection(("127.0.0.1", hasty.port), timeout=20) as client:
        client.sendall(HEAD + framing.encode() + b"\r\n\r\n")
        answers = client.makefile("rb")
        for _ in range(3):
            client.sendall(b"10\r\n" + line + b"\r\n" if is_chunked else line)
            assert next(each for each in answers if b"query" in each).startswith(b'{"query":"1+2","answer":"3"')
        client.sendall(b"0\r\n\r\n" if is_chunked else b"")
        assert next(each for each in answers if each == b"0\r\n")


def test_who_stops_sending_is_told_behind_the_answers(hasty: Service) -> None:
    received = hasty.send(HEAD + b"Content-Length: 99999\r\n\r\n" + b'{"query":"1+2"}\n' * 300)
    assert received.count(b'"answer":"3"') == 300
    assert b"/problems/incomplete" in received


@pytest.mark.parametrize("line", [b"1\n", b'{"query":"1+2","alternatives":10}\n'])
def test_who_sends_lines_without_end_keeps_nobody_from_an_answer(hasty: Service, line: bytes) -> None:
    with socket.create_connection(("127.0.0.1", hasty.port), timeout=20) as client:
        client.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        sending = threading.Thread(
            target=_send_until_closed, args=(client, b"%x\r\n%b\r\n" % (500 * len(line), 500 * line))
        )
        reading = threading.Thread(target=_read_until_closed, args=(client,))
        sending.start()
        reading.start()
        for _ in range(20):
            assert hasty.post("/predict", {"query": "1+2"}).json()["answer"] == "3"
        assert sending.is_alive()
        client.shutdown(socket.SHUT_RDWR)
        sending.join()
        reading.join()


def _send_until_closed(client: socket.socket, body: bytes) -> None:
    with suppress(OSError):
        while True:
            client.sendall(body)


def _read_until_closed(client: socket.socket) -> None:
    with suppress(OSError):
        while client.recv(65536):
            pass
