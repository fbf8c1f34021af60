"""NDJSON to /predict/batch: a body of any length, answered line by line."""

import json
import re
import select
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from tests.end_to_end.conftest import PREDICT_HEAD, Service, receive_all

NDJSON = {"content-type": "application/x-ndjson"}
HEAD = b"POST /predict/batch HTTP/1.1\r\nHost: adder\r\nContent-Type: application/x-ndjson\r\n"


def peak_megabytes(service: Service) -> float:
    """The peak memory of the worker that had the most, in MB."""
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in service.workers()]
    return max(int(peak) for text in texts for peak in re.findall(r"VmHWM:\s+(\d+) kB", text)) / 1000


@pytest.mark.usefixtures("curl")
def test_a_large_file_is_answered_in_constant_memory(service: Service, tmp_path: Path) -> None:
    queries = [f"{number % 1000}+{number * 7 % 1000}" for number in range(100_000)]
    file = tmp_path / "queries.ndjson"
    file.write_text("".join(f'{{"query":"{query}"}}\n' for query in queries))
    few = {"queries": queries[:8192]}
    expected = [each["answer"] for each in service.post("/predict/batch", few).json()["predictions"]]
    before = peak_megabytes(service)
    command = ["curl", "-sS", service.url + "/predict/batch", "-H", f"content-type: {NDJSON['content-type']}"]
    sent = subprocess.run([*command, "--data-binary", f"@{file}"], capture_output=True, check=True)
    answers = [json.loads(line) for line in sent.stdout.splitlines()]
    assert [answer["query"] for answer in answers] == queries
    assert [answer["answer"] for answer in answers[:8192]] == expected
    assert peak_megabytes(service) < before + 10  # the body has 2 MB, the answer 17


def test_a_stream_may_outlast_the_time_of_a_request(short_limits: Service) -> None:
    sent = 0

    def until_four_requests_were_cut_off() -> Iterator[bytes]:
        """Send lines until the service has given up four plain requests, one after the other, a second each."""
        nonlocal sent
        for _ in range(4):
            with short_limits.connect() as stalled:
                stalled.sendall(PREDICT_HEAD + b"Content-Length: 20\r\n\r\n{")
                while not select.select([stalled], [], [], 0.1)[0]:
                    yield b'{"query":"1+2"}\n' * 100
                    sent += 100
                assert b"/problems/incomplete" in receive_all(stalled)

    body = until_four_requests_were_cut_off()
    answered = requests.post(short_limits.url + "/predict/batch", data=body, headers=NDJSON, timeout=30)
    assert [json.loads(line)["answer"] for line in answered.iter_lines()] == ["3"] * sent


@pytest.mark.parametrize("framing", ["Content-Length: 48", "Transfer-Encoding: chunked"])
def test_a_line_is_answered_before_the_next_is_sent(short_limits: Service, framing: str) -> None:
    line, is_chunked = b'{"query":"1+2"}\n', "chunked" in framing
    with short_limits.connect() as client:
        client.sendall(HEAD + framing.encode() + b"\r\n\r\n")
        answers = client.makefile("rb")
        for _ in range(3):
            client.sendall(b"10\r\n" + line + b"\r\n" if is_chunked else line)
            assert next(each for each in answers if b"query" in each).startswith(b'{"query":"1+2","answer":"3"')
        client.sendall(b"0\r\n\r\n" if is_chunked else b"")
        assert next(each for each in answers if each == b"0\r\n")


def test_a_cut_short_body_is_reported_after_the_answers(short_limits: Service) -> None:
    received = short_limits.send(HEAD + b"Content-Length: 99999\r\n\r\n" + b'{"query":"1+2"}\n' * 300)
    assert received.count(b'"answer":"3"') == 300
    assert b"/problems/incomplete" in received


@pytest.mark.parametrize("framing", ["Content-Length: 99999", "Transfer-Encoding: chunked"])
def test_a_pause_is_reported_behind_the_answers(short_limits: Service, framing: str) -> None:
    line = b'{"query":"1+2"}\n'
    with short_limits.connect() as client:
        client.sendall(
            HEAD + framing.encode() + b"\r\n\r\n" + (b"10\r\n" + line + b"\r\n" if "chunked" in framing else line)
        )
        received = receive_all(client)
    assert received.count(b'"answer":"3"') == 1
    assert b"nothing came for ADDER_RECEIVE_SECONDS" in received
    assert b'"line":2' in received


def test_lines_sent_one_in_a_chunk_share_calls(service: Service) -> None:
    before = service.metric_value("adder_batch_size_count")
    head = HEAD + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    received = service.send(head + b'10\r\n{"query":"1+2"}\n\r\n' * 2000 + b"0\r\n\r\n")
    assert received.count(b'"answer":"3"') == 2000
    assert service.metric_value("adder_batch_size_count") < before + 1000


@pytest.mark.parametrize("line", [b"1\n", b'{"query":"1+2","alternatives":10}\n'])
def test_an_endless_stream_delays_no_other_client(short_limits: Service, line: bytes) -> None:
    with short_limits.connect() as client:
        client.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        sending = threading.Thread(
            target=_send_until_closed, args=(client, b"%x\r\n%b\r\n" % (500 * len(line), 500 * line))
        )
        reading = threading.Thread(target=_read_until_closed, args=(client,))
        sending.start()
        reading.start()
        for _ in range(20):
            assert short_limits.post("/predict", {"query": "1+2"}).json()["answer"] == "3"
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
