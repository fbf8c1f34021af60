"""Every problem has a sample and an example; test_problem_pages.py tests the page of each example."""

import re
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from service import errors
from service.errors import InvalidArgument, NotPermitted, Problem
from service.openapi.examples import EXAMPLES


def subclasses(problem: type[Problem]) -> Iterator[type[Problem]]:
    for subclass in problem.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


PROBLEMS = list(subclasses(Problem))
every_problem = pytest.mark.parametrize("problem", PROBLEMS)


def test_names_titles_and_meanings_are_unique() -> None:
    for attribute in ("name", "title", "meaning"):
        assert len({getattr(problem, attribute) for problem in PROBLEMS}) == len(PROBLEMS)


def test_the_tree_shows_every_problem_with_its_status() -> None:
    tree = dict(re.findall(r"[├└]── (\w+) +(\d{3})", errors.__doc__ or ""))
    assert tree == {problem.__name__: str(problem.status) for problem in PROBLEMS}


@every_problem
def test_a_problem_has_a_sample_and_a_meaning(problem: type[Problem]) -> None:
    sample = problem.sample()
    assert type(sample) is problem
    assert (EXAMPLES[problem.name].document, EXAMPLES[problem.name].meaning) == (sample.document(), problem.meaning)
    assert (sample.document()["status"], sample.document()["title"]) == (problem.status, problem.title)
    assert sample.detail
    assert problem.meaning.endswith(".")


@every_problem
def test_a_problem_is_an_example_of_a_response(client: FlaskClient, problem: type[Problem]) -> None:
    components = client.get("/openapi.json").get_json()["components"]
    assert components["examples"][problem.name]["value"] == problem.sample().document()
    if problem in (
        InvalidArgument,
        NotPermitted,
    ):  # which only the other dialects raise: their errors are no problem documents
        reference = str({"error": problem.sample().detail})
    else:
        reference = f"'#/components/examples/{problem.name}'"
    assert reference in str(components["responses"])


@every_problem
def test_a_replaced_problem_is_a_copy(problem: type[Problem]) -> None:
    sample = problem.sample()
    before = sample.document()
    copy = sample.replace(detail="another detail", example={"query": "1+1"})
    assert type(copy) is problem
    assert copy.document() == before | {"detail": "another detail", "example": {"query": "1+1"}}
    assert copy.replace().document() == copy.document()
    assert sample.document() == before
