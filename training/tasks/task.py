"""What a task is: queries and answers as text and as tokens, and what the service says about them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.uint8]
Texts = npt.NDArray[np.bytes_]
Labels = npt.NDArray[np.str_]
Chunk = Callable[[int], Texts]
Draw = Callable[[np.random.Generator, int], Texts]


@dataclass(frozen=True)
class Rule:
    """A mistake in a text that is not a query.

    `pattern` finds it, in time linear in the length of the text. `{match}` in the sentence stands for the text that was
    found. `replacement`, in the syntax of Python's `re.sub`, corrects the mistake where its correction is clear.
    """

    pattern: str
    sentence: str
    replacement: str | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Task:
    """A task that a network learns. Raises ValueError if its parts contradict each other.

    - `alphabet` consists of ASCII characters; a character's position is its token. `end` is one of them: it ends an
      answer and pads a query.
    - A text that matches `query_pattern` is accepted; the query is the pattern's groups joined. The pattern is read by
      Python and by ECMAScript. The first of the `rules` that finds its mistake describes why another text is refused;
      `hint` completes the sentence "write ...".
    - `queries()` returns all queries, bytes [N]. If these are too many, `draw(generator, count)` returns random ones
      instead, and may repeat itself; if `chunks` is not 0, `chunk(number)` returns all queries in so many parts.
    - `mirror(queries)` returns the queries that ask the same in another order, bytes [N]; none if it is None.
    - `salt` changes which queries are held out. Those in `train_only` never are: nothing else in the task has their
      answer.
    - `answers(queries)` returns the correct answers, bytes [N]. `groups(queries)` returns a label for each query, [N],
      by the name of a grouping: the evidence counts wrong answers in each group.
    - `truth` is how the service checks answers: by the sum of the numbers among the groups of `query_pattern`, whose
      last characters count if answers are shorter; by the samples in the artifact; or not at all.
    - `oversampling`: how often an epoch contains a query, by its length; once for any other length.
    """

    name: str
    alphabet: str
    end: str = " "
    query_length: int
    answer_length: int
    query_pattern: str
    rules: tuple[Rule, ...]
    hint: str
    example: str
    truth: Literal["sum", "samples"] | None
    answers: Callable[[Texts], Texts]
    queries: Callable[[], Texts] | None = None
    draw: Draw | None = None
    chunks: int = 0
    chunk: Chunk | None = None
    mirror: Callable[[Texts], Texts] | None = None
    salt: bytes = b""
    train_only: tuple[bytes, ...] = ()
    groups: Callable[[Texts], dict[str, Labels]] = lambda _: {}
    oversampling: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.alphabet.isascii() or len(set(self.alphabet)) < len(self.alphabet):
            raise ValueError(f"task {self.name}: the alphabet must consist of different ASCII characters")
        if len(self.end) != 1 or self.end not in self.alphabet:
            raise ValueError(f"task {self.name}: the end, {self.end!r}, must be a character of the alphabet")
        if (self.queries is None) == (self.draw is None):
            raise ValueError(f"task {self.name}: give either queries or draw")
        if (self.chunks > 0) == (self.chunk is None):
            raise ValueError(f"task {self.name}: give chunks and chunk together")
        for pattern, replacement in [(self.query_pattern, None), *((r.pattern, r.replacement) for r in self.rules)]:
            try:
                match = re.match(f"(?:{pattern})|", "")  # of nothing; it has the groups of the pattern
                if match and replacement is not None:
                    match.expand(replacement)
            except (re.error, IndexError) as error:
                raise ValueError(f"task {self.name}: the pattern {pattern} cannot be used: {error}") from error
        match = re.fullmatch(self.query_pattern, self.example)
        if match is None or (match.groups() and "".join(match.groups("")) != self.example):
            raise ValueError(f"task {self.name}: the example, {self.example!r}, is no query by query_pattern")
        self.tokenize_queries(np.array([self.example.encode()]))
        self.tokenize_answers(self.answers(np.array([self.example.encode()])))

    @property
    def end_token(self) -> int:
        """The token of `end`."""
        return self.alphabet.index(self.end)

    @cached_property
    def token_of_byte(self) -> npt.NDArray[np.int32]:
        """The token of each of the 256 byte values, or -1 if it is not in the alphabet: int32 [256]."""
        table = np.full(256, -1, np.int32)
        table[list(self.alphabet.encode())] = np.arange(len(self.alphabet))
        return table

    def tokenize_queries(self, queries: Texts) -> Tokens:
        """Bytes [B] -> uint8 [B, query_length], padded on the right.

        Raises ValueError if a query is too long, or has a character outside the alphabet.
        """
        return self._tokenize(queries, self.query_length, "a query")

    def tokenize_answers(self, answers: Texts) -> Tokens:
        """Bytes [B] -> uint8 [B, answer_length], with the end from the end of the answer on.

        Raises ValueError if an answer is too long, or has a character outside the alphabet.
        """
        return self._tokenize(answers, self.answer_length, "an answer")

    def detokenize(self, answers: Tokens) -> Texts:
        """Tokens uint8 [B, T] -> bytes [B]: the characters before the first end."""
        ended = np.logical_or.accumulate(answers == self.end_token, axis=1)
        characters = np.where(ended, b"", np.array(list(self.alphabet), "S1")[answers])
        return np.ascontiguousarray(characters).view(f"S{answers.shape[1]}").ravel()

    def _tokenize(self, texts: Texts, length: int, what: str) -> Tokens:
        longest = np.char.str_len(texts).max(initial=0)
        if longest > length:
            raise ValueError(f"task {self.name}: a text has {longest} characters; the maximum of {what} is {length}")
        padded = np.char.ljust(texts, length, self.end).astype(f"S{length}").view(np.uint8).reshape(-1, length)
        found = self.token_of_byte[padded]
        if (found < 0).any():
            raise ValueError(f"task {self.name}: a text has a character outside the alphabet {self.alphabet!r}")
        return found.astype(np.uint8)
