"""What is to be reached, and what was."""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple, Self

MET, MISSED = "met", "missed"


class Goal(NamedTuple):
    """A row of the table of goals."""

    what: str
    goal: str
    figure: str
    verdict: str

    @classmethod
    def at_least(cls, bound: float, what: str, ratios: Sequence[float]) -> Self:
        """Of the ratios of all rounds, the median."""
        return cls(what, f"at least {bound:g}", spread(ratios), MET if median(ratios) >= bound else MISSED)

    @classmethod
    def at_most(cls, bound: float, what: str, ratios: Sequence[float]) -> Self:
        """Likewise."""
        return cls(what, f"at most {bound:g}", spread(ratios), MET if median(ratios) <= bound else MISSED)

    def row(self) -> str:
        """In markdown."""
        return f"| {self.what} | {self.goal} | {self.figure} | {self.verdict} |"


def table(rows: Sequence[str]) -> str:
    """The rows under their heads."""
    return "\n".join(["| what | goal | figure | |", "| --- | --- | --- | --- |", *rows])


def spread(figures: Iterable[float], digits: int = 2) -> str:
    """The median, and in parentheses the least and the greatest."""
    ascending = sorted(figures)
    middle, least, greatest = (f"{figure:,.{digits}f}" for figure in (median(ascending), ascending[0], ascending[-1]))
    return f"{middle} ({least} to {greatest})" if len(ascending) > 1 else middle
