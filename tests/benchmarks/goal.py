"""The goals of the benchmarks, and whether they are met."""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple, Self

MET, MISSED = "met", "missed"


class Goal(NamedTuple):
    """A row of the table of goals."""

    name: str
    goal: str
    figure: str
    verdict: str

    @classmethod
    def at_least(cls, bound: float, name: str, ratios: Sequence[float]) -> Self:
        """Met if the median ratio of all rounds is at least the bound."""
        return cls(name, f"at least {bound:g}", spread(ratios), MET if median(ratios) >= bound else MISSED)

    @classmethod
    def at_most(cls, bound: float, name: str, ratios: Sequence[float]) -> Self:
        """Met if the median ratio of all rounds is at most the bound."""
        return cls(name, f"at most {bound:g}", spread(ratios), MET if median(ratios) <= bound else MISSED)

    def row(self) -> str:
        """The goal in markdown."""
        return f"| {self.name} | {self.goal} | {self.figure} | {self.verdict} |"


def table(rows: Sequence[str]) -> str:
    """The rows below their header."""
    return "\n".join(["| what | goal | figure | |", "| --- | --- | --- | --- |", *rows])


def spread(figures: Iterable[float], digits: int = 2) -> str:
    """The median, and in parentheses the lowest and the highest figure."""
    ascending = sorted(figures)
    middle, least, greatest = (f"{figure:,.{digits}f}" for figure in (median(ascending), ascending[0], ascending[-1]))
    return f"{middle} ({least} to {greatest})" if len(ascending) > 1 else middle
