"""Reversal: a word of one to six letters a to e, written from its end to its start."""

from itertools import product

import numpy as np

from training.tasks.task import Labels, Rule, Task, Texts

LETTERS, LONGEST = "abcde", 6


def _words() -> Texts:
    """All words, bytes [19,530], the shortest first."""
    lengths = range(1, LONGEST + 1)
    return np.array(["".join(letters) for length in lengths for letters in product(LETTERS, repeat=length)], "S")


def _reversed(words: Texts) -> Texts:
    return np.array([word[::-1] for word in words.tolist()], "S")


def _groups(words: Texts) -> dict[str, Labels]:
    return {"length": np.char.str_len(words).astype(str)}


TASKS = (
    Task(
        name="reversal",
        alphabet=f"{LETTERS} ",
        query_length=LONGEST,
        answer_length=LONGEST,
        query_pattern=f"^ *([a-e]{{1,{LONGEST}}}) *$",
        rules=(
            Rule("^ *$", "the word is empty"),
            Rule("[A-Z]", "{match} is a capital letter: write small letters"),
            Rule("(?<=[a-z]) +(?=[a-z])", "{match} stands inside the word: write one word", ""),
            Rule("[^a-e ]", "{match} is not one of the letters a to e"),
            Rule("[a-e]{7,}", "the word {match} is too long: write up to 6 letters"),
        ),
        hint=f"a word of up to {LONGEST} letters, all of the letters a to e",
        example="abcde",
        truth="samples",
        queries=_words,
        answers=_reversed,
        groups=_groups,
    ),
)
