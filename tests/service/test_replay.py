import json
from pathlib import Path

import pytest

from service.errors import ModelUnavailable
from service.replay import read_log, replay


def write(file: Path, *answers: tuple[str, str], model: str = "adder") -> None:
    lines = [
        json.dumps({"model": model, "version": 1, "query": query, "answer": answer, "milliseconds": 2.0, "more": 1})
        for query, answer in answers
    ]
    file.write_text("\n".join(lines) + "\n")


def test_the_files_of_all_workers_are_read_without_broken_lines(tmp_path: Path) -> None:
    write(tmp_path / "predictions-0.ndjson", ("1+2", "3"), ("3+4", "7"))
    write(tmp_path / "predictions-1.ndjson.1", ("5+6", "11"))
    write(tmp_path / "predictions-2.ndjson", ("7+8", "5"), model="last-digit")
    with (tmp_path / "predictions-0.ndjson").open("a") as file:
        file.write('{"model": "adder", "ver')
    assert {answer.query for answer in read_log(tmp_path, "adder")} == {"1+2", "3+4", "5+6"}
    with pytest.raises(ModelUnavailable, match="has no answers of cho2014: set ADDER_PREDICTION_LOG"):
        read_log(tmp_path, "cho2014")


def test_answers_are_compared_with_each_other_and_with_the_right_ones(tmp_path: Path) -> None:
    write(tmp_path / "predictions-0.ndjson", ("1+2", "3"), ("3+4", "8"), ("5+6", "11"), ("x", "1"))
    now = {"1+2": "3", "3+4": "7", "5+6": "12"}
    right = {"1+2": "3", "3+4": "7", "5+6": "11"}
    compared = replay(read_log(tmp_path, "adder"), now.get, right.get)
    assert compared[:5] == (4, 1, 3, 2, 2)
    assert compared.milliseconds_before == 2.0
    assert list(compared.sentences())[:2] == [
        "1 of 4 answers agree",
        "right: 2 before, 2 now, of 3 that can be checked",
    ]
    assert replay(read_log(tmp_path, "adder"), now.get, None)[2:5] == (0, 0, 0)
