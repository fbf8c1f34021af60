import logging
import os

import pytest

from service.models.native_stderr import capture_stderr, log_stderr


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("INFO: Created TensorFlow Lite XNNPACK delegate for CPU.", logging.INFO),
        ("ERROR: tensors are missing", logging.ERROR),
        ("W0000 00:00:1764000000.000001 12 cpu_feature_guard.cc:227] rebuild", logging.WARNING),
        ("2026-11-24 12:00:00.000001: E external/xla/x.cc:467] no cuFFT", logging.ERROR),
        ("Illegal instruction", logging.WARNING),
        ("terminate called", logging.WARNING),
    ],
)
def test_a_line_is_logged_with_its_level(caplog: pytest.LogCaptureFixture, line: str, level: int) -> None:
    with caplog.at_level(logging.INFO, "tensorflow"):
        log_stderr(f"\n{line}\n")
    assert caplog.record_tuples == [("tensorflow", level, line)]


def test_stderr_of_native_code_is_logged(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with capture_stderr():
        os.write(2, b"one\ntwo \xff\n")
    os.write(2, b"three\n")
    assert [record.message for record in caplog.records] == ["one", "two �"]
    assert capfd.readouterr().err == "three\n"
