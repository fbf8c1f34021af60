import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import ModelUnavailable
from service.models.serving import Serving, edit_serving, read_serving


def write(model: Path, content: Any) -> Path:
    (model / "serving.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return model


def test_without_a_file_nothing_is_set(tmp_path: Path) -> None:
    serving = read_serving(tmp_path, [1, 2])
    assert (serving.default_version, serving.keep, serving.canary_for("id"), serving.named()) == (
        None,
        None,
        None,
        set(),
    )


def test_all_fields_are_read(tmp_path: Path) -> None:
    content = {"labels": {"stable": 2, "canary": 3}, "default": "stable", "canary_percent": 10, "keep": 2}
    serving = read_serving(write(tmp_path, content), [1, 2, 3])
    assert (serving.default_version, serving.keep, serving.named()) == (2, 2, {2, 3})
    assert serving.labels_of(3) == ["canary"]
    assert read_serving(write(tmp_path, {"default": 1}), [1]).default_version == 1


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"labels"', "serving.json is invalid: Invalid JSON"),
        ([], "is invalid: Input should be an object"),
        ({"label": {}}, "is invalid: label: Extra inputs are not permitted"),
        ({"labels": {"stable": "2"}}, "is invalid: labels.stable: Input should be a valid integer"),
        ({"labels": {"1": 2}}, "is invalid: labels.1.[key]: String should match pattern"),
        ({"default": "stable"}, "is invalid: default is 'stable', which is no label"),
        ({"canary_percent": 10}, "is invalid: canary_percent requires the label 'canary'"),
        ({"labels": {"canary": 1}, "canary_percent": 101}, "canary_percent: Input should be less than or equal to 100"),
        ({"keep": -1}, "keep: Input should be greater than or equal to 0"),
        ({"labels": {"stable": 7}}, "serving.json names version 7, which cannot be served"),
        ({"default": 7}, "serving.json names version 7, which cannot be served"),
    ],
)
def test_a_damaged_file_is_a_problem(tmp_path: Path, content: Any, problem: str) -> None:
    with pytest.raises(ModelUnavailable) as raised:
        read_serving(write(tmp_path, content), [1, 2])
    assert problem in str(raised.value)


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "serving.json").mkdir()
    with pytest.raises(ModelUnavailable, match=r"serving\.json cannot be read: Is a directory"):
        read_serving(tmp_path, [1])


def test_a_file_is_edited_in_one_step(tmp_path: Path) -> None:
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
    edit_serving(tmp_path, labels={"stable": 1})
    edit_serving(tmp_path, default="stable")
    assert json.loads((tmp_path / "serving.json").read_text()) == {"labels": {"stable": 1}, "default": "stable"}
    with pytest.raises(ModelUnavailable, match="names version 7, which cannot be served"):
        edit_serving(tmp_path, default=7)
    assert read_serving(tmp_path).default == "stable"
    assert {file.name for file in tmp_path.iterdir()} == {"1", "2", "serving.json"}
    with pytest.raises(ModelUnavailable, match="empty has no version"):
        edit_serving(tmp_path / "empty", default=1)


@given(st.text(), st.floats(0, 100))
def test_a_retry_meets_the_same_version(request_id: str, percent: float) -> None:
    serving = Serving(labels={"canary": 3}, canary_percent=percent)
    assert serving.canary_for(request_id) == serving.canary_for(request_id)
    assert serving.model_copy(update={"canary_percent": 100}).canary_for(request_id) == 3
    assert serving.model_copy(update={"canary_percent": 0}).canary_for(request_id) is None


def test_a_canary_gets_its_share() -> None:
    serving = Serving(labels={"canary": 3}, canary_percent=10)
    answered = [serving.canary_for(f"id-{number}") for number in range(10_000)]
    assert answered.count(3) / len(answered) == pytest.approx(0.1, abs=0.02)
