import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training import TrainingError, tasks
from training.tasks import Rule, Task, find_task
from training.tasks.task import Texts

ADDITION = find_task("addition")


def echo_task(**changes: object) -> Task:
    """A small task: letters a to c, answered by the same letters."""
    fields: dict[str, object] = {
        "name": "echo", "alphabet": "abc.", "end": ".", "query_length": 3, "answer_length": 3,
        "query_pattern": "^([a-c]{1,3})$", "rules": (), "hint": "letters", "example": "abc", "truth": None,
        "answers": lambda queries: queries, "queries": lambda: np.array([b"a", b"b"]),
    }  # fmt: skip
    return Task(**fields | changes)  # type: ignore[arg-type]


def test_queries_and_answers_are_padded_with_the_end() -> None:
    task = echo_task()
    assert "".join(task.alphabet[token] for token in task.tokenize_queries(np.array([b"ab"]))[0]) == "ab."
    assert "".join(task.alphabet[token] for token in task.tokenize_answers(np.array([b"c"]))[0]) == "c.."


@given(st.lists(st.integers(0, 999).map(lambda number: str(number).encode()), min_size=1))
def test_detokenize_inverts_tokenize(answers: list[bytes]) -> None:
    assert ADDITION.detokenize(ADDITION.tokenize_answers(np.array(answers, "S4"))).tolist() == answers


def test_the_first_end_ends_an_answer() -> None:
    end = ADDITION.end_token
    tokens = np.array([[5, end, 7, 9], [end, 1, 2, 3]], np.uint8)
    assert ADDITION.detokenize(tokens).tolist() == [b"5", b""]


@pytest.mark.parametrize(
    ("text", "message"),
    [(b"1x2", "outside the alphabet"), (b"1000+100", "has 8 characters; the maximum of a query is 7")],
)
def test_tokenize_refuses_invalid_text(text: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ADDITION.tokenize_queries(np.array([text]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alphabet": "abca."}, "the alphabet must consist of different ASCII characters"),
        ({"alphabet": "abcé."}, "the alphabet must consist of different ASCII characters"),
        ({"end": " "}, "the end, ' ', must be a character of the alphabet"),
        ({"queries": None}, "give either queries or draw"),
        ({"rules": (Rule("(", "wrong"),)}, r"the pattern \( cannot be used"),
        ({"rules": (Rule("(a)", "wrong", r"\2"),)}, r"the pattern \(a\) cannot be used: invalid group reference 2"),
        ({"example": "abd"}, "the example, 'abd', is no query by query_pattern"),
        ({"query_pattern": "(a)bc"}, "the example, 'abc', is no query by query_pattern"),
        ({"answer_length": 2}, "a text has 3 characters; the maximum of an answer is 2"),
    ],
)
def test_a_task_that_contradicts_itself_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        echo_task(**changes)


def test_an_unknown_task_is_answered_with_the_known_ones() -> None:
    with pytest.raises(TrainingError, match=r"'sorting' does not exist: the tasks are addition, .*reversal"):
        find_task("sorting")


def test_a_module_in_the_folder_adds_its_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "copied_reversal.py").write_text(
        "from dataclasses import replace\nfrom training.tasks import reversal\n"
        "TASKS = (replace(reversal.TASKS[0], name='backwards'),)\n"
    )
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(tmp_path)])
    assert find_task("backwards").example == "abcde"
    (tmp_path / "broken_task.py").write_text("1 / 0")
    with pytest.raises(TrainingError, match=r"training\.tasks\.broken_task cannot be imported: division by zero"):
        find_task("addition")


def everything(task: Task) -> Texts:
    assert task.queries is not None
    return task.queries()


@pytest.mark.parametrize("name", ["addition-2", "addition", "last-digit", "reversal"])
def test_every_query_matches_the_pattern_and_fits(name: str) -> None:
    task = find_task(name)
    queries = everything(task)
    some = np.random.default_rng(0).choice(queries, 1000)
    assert all(re.fullmatch(task.query_pattern, query.decode()) for query in some)
    assert task.tokenize_queries(queries).shape == (len(queries), task.query_length)
    assert task.tokenize_answers(task.answers(queries)).shape == (len(queries), task.answer_length)
    assert all(len(labels) == len(queries) for labels in task.groups(queries).values())
