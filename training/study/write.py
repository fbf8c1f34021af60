"""STUDY.md and its pictures, from the results of the trainings. Every figure of a training in the text is of a line."""

from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training import explain
from training.report import Pictures
from training.study.compare import Line, identity, read_lines
from training.study.comparisons import COMPARISONS, settings
from training.study.states import draw_states

# By comparison: the question, and what is the same in all trainings.
QUESTIONS = {
    "unreversed": (
        "Does it help to read a query from its end?",
        "Sutskever et al. 2014 reverse the query, so that its first characters are close to the first of the answer.",
    ),
    "cells": ("LSTM, GRU or SimpleRNN?", "The architecture is `repeat_vector`, with the same number of units."),
    "architectures": (
        "Which encoder-decoder?",
        "`repeat_vector` is the tutorial's; `cho2014` (GRU) and `sutskever2014` also read the character before.",
    ),
    "constant-rate": (
        "Does the learning rate matter?",
        "The tutorial has Adam's default, 0.001, in each step. Ours rises to 0.01 and falls to 0 along a cosine, and "
        "the gradient is clipped.",
    ),
    "units": ("How many hidden units?", "The same number in the encoder and in the decoder."),
    "fewer-examples": (
        "How many examples?",
        "Pairs without their order, each shown in both orders. The number of queries shown in all epochs is the same.",
    ),
    "keras-example": (
        "Against Keras' own example",
        "The recipe of examples/nlp/addition_rnn in keras-io (batches of 32, Adam with its defaults, one order of each "
        "pair) and ours, with its numbers of examples. Both train the tutorial's network by the same code.",
    ),
}
INTRODUCTION = """# The study

The tutorial on `return_sequences`, `RepeatVector` and `TimeDistributed` explains three layers, leaves a question open,
and draws an encoder-decoder. Here are the layers, run; its scripts, in today's form; and trainings that compare what
it chooses with what else could be chosen.

`python -m training compare` runs the trainings, and appends a line for each to [results.jsonl](results.jsonl).
`python -m training study` writes this text and its pictures from the lines. Held-out queries are in no training, in
neither order. Seconds are those of one core, without compiling; compare them within a table only.
"""


def write_study(results: Path, artifact: Path) -> Path:
    """Write STUDY.md and its pictures beside the results, and return its path. `artifact` is the version of adder whose
    states are drawn.

    Raises TrainingError if the results are damaged.
    """
    folder = results.parent
    by_identity = {identity(line.recipe): line for line in read_lines(results)}
    parts = [INTRODUCTION, *_layers(), (Path(__file__).parent / "tutorial.md").read_text()]
    for comparison in COMPARISONS:
        parts += _section(comparison, by_identity, folder)
    parts += [
        "## What a trained network keeps\n",
        f"Of `{artifact}`, for held-out queries with two operands of three digits.\n",
    ]
    parts += _images(draw_states(artifact, folder))
    file = folder / "STUDY.md"
    file.write_text("\n".join(parts))
    return file


def _layers() -> Iterable[str]:
    """What `python -m training explain` prints."""
    yield "## The three layers\n"
    yield "On a sequence, `Dense` does what `TimeDistributed(Dense)` does, with the same number of weights.\n"
    for layer in explain.LAYERS:
        yield f"`python -m training explain {layer}`:\n\n```text\n{explain.explain(layer)}\n```\n"


def _section(comparison: str, by_identity: dict[str, Line], folder: Path) -> list[str]:
    """Of a comparison whose trainings are not all in the results, what is missing."""
    question, context = QUESTIONS[comparison]
    recipes = {name: [identity(recipe) for recipe in found] for name, found in settings(comparison).items()}
    wanted = [each for found in recipes.values() for each in found]
    missing = sum(each not in by_identity for each in wanted)
    heading = [f"## {question}\n", f"{context}\n"]
    if missing:
        command = f"python -m training compare --against {comparison}"
        return [*heading, f"{missing} of {len(wanted)} trainings are missing: `{command}`.\n"]
    lines = {name: [by_identity[each] for each in found] for name, found in recipes.items()}
    file = f"{comparison}.png"
    caption = "Share of wrong validation answers against seconds of a core; the band is the spread of the seeds"
    if comparison == "keras-example":
        panels = _by_digits(lines)
        findings = [_ahead(digits, *(found for [found] in both.values())) for digits, both in panels.items()] + [""]
    else:
        panels, findings = {"": lines}, [_finding(lines)]
    _curves(panels, folder / file)
    return [*heading, _table(lines), "", *findings, *_images([(file, caption)])]


def _table(lines: dict[str, list[Line]]) -> str:
    """A row for each setting, with the spread over its seeds."""
    rows = [
        f"| {name} | {found[0].weights:,} | {found[0].recipe.epochs} | {_share(_exact(found))} "
        f"| {_share([line.characters for line in found])} | {_spread([_seconds(line)[-1] for line in found], ',.0f')} |"
        for name, found in lines.items()
    ]
    head = "| setting | weights | epochs | held-out answers right | characters right | seconds |"
    return "\n".join([head, "| --- | --- | --- | --- | --- | --- |", *rows])


def _finding(lines: dict[str, list[Line]]) -> str:
    """The best and the worst setting in a sentence."""
    means = {name: float(np.mean(_exact(found))) for name, found in lines.items()}
    best, worst = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
    overlap = " The spreads of the two overlap." * (min(_exact(lines[best])) <= max(_exact(lines[worst])))
    return (
        f"Most held-out answers are right with {best}, {means[best]:.2%}, fewest with {worst}, {means[worst]:.2%}."
        f"{overlap}\n"
    )


def _by_digits(lines: dict[str, list[Line]]) -> dict[str, dict[str, list[Line]]]:
    """The settings of keras-example, whose names are such as "2 digits, ours"."""
    panels: dict[str, dict[str, list[Line]]] = {}
    for name, found in lines.items():
        digits, _, recipe = name.partition(", ")
        panels.setdefault(digits, {})[recipe] = found
    return panels


def _ahead(digits: str, example: Line, ours: Line) -> str:
    """When ours is as good as the example's recipe at its end, in a sentence."""
    end, whole = example.epochs[-1].validation_exact_match, _seconds(example)[-1]
    reached = [
        seconds
        for seconds, epoch in zip(_seconds(ours), ours.epochs, strict=True)
        if epoch.validation_exact_match >= end
    ]
    if not reached:
        return (
            f"- {digits}: ours does not reach the {end:.2%} of validation answers that the example's recipe ends with."
        )
    return (
        f"- {digits}: the example's recipe ends with {end:.2%} of validation answers right after {whole:,.0f} seconds; "
        f"ours has as many after {reached[0]:,.0f} seconds, {reached[0] / whole:.2f} of the time."
    )


def _curves(panels: dict[str, dict[str, list[Line]]], file: Path) -> None:
    """Draw a panel for each group of settings, two in a row."""
    rows, columns = -(-len(panels) // 2), min(len(panels), 2)
    figure = Figure(figsize=(6 * columns, 3.5 * rows))
    every = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (title, lines) in zip(every, panels.items(), strict=True):
        for name, found in lines.items():
            _curve(axes, name, found)
        axes.set(title=title, xlabel="seconds of a core", ylabel="wrong validation answers", yscale="log")
        axes.yaxis.set_major_formatter("{x:.2%}")
        axes.legend()
    figure.savefig(file, dpi=120)


def _curve(axes: Axes, name: str, lines: list[Line]) -> None:
    wrong = np.array([[1 - epoch.validation_exact_match for epoch in line.epochs] for line in lines])
    wrong = np.maximum(wrong, 5e-5)  # half a query: a logarithm has no place for none
    seconds = np.mean([_seconds(line) for line in lines], axis=0)
    [drawn] = axes.plot(seconds, wrong.mean(axis=0), label=name)
    axes.fill_between(seconds, wrong.min(axis=0), wrong.max(axis=0), color=drawn.get_color(), alpha=0.2)


def _seconds(line: Line) -> list[float]:
    """Seconds of a core from the start to the end of each epoch."""
    return list(accumulate(epoch.core_seconds or 0.0 for epoch in line.epochs))


def _exact(lines: list[Line]) -> list[float]:
    return [line.held_out.exact_match for line in lines]


def _share(values: list[float]) -> str:
    return _spread(values, ".2%")


def _spread(values: list[float], form: str) -> str:
    """The mean, and the lowest and the highest value if there are several."""
    mean = format(float(np.mean(values)), form)
    return mean if len(values) == 1 else f"{mean} ({min(values):{form}} to {max(values):{form}})"


def _images(pictures: Pictures) -> list[str]:
    return [f"![{caption}]({file})\n\n*{caption}.*\n" for file, caption in pictures]
