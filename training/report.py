"""The model card of an artifact and its pictures, made from `metadata.json`."""

import inspect
import re
import shutil
from pathlib import Path
from typing import Any

import keras
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from training import TrainingError, metadata
from training.networks import ARCHITECTURES
from training.tasks import Task, find_task

Pictures = list[tuple[str, str]]  # file name and caption of each PNG
PNG: dict[str, Any] = {"dpi": 120, "pil_kwargs": {"optimize": True}}  # how all are saved: small, without loss

MIN_BIN_QUERIES = 100  # the accuracy of fewer queries is too noisy to plot
MIN_WRONG = 20  # fewer wrong answers are listed, not plotted

mpl.rcParams.update({"figure.constrained_layout.use": True, "axes.spines.top": False, "axes.spines.right": False})


def report(artifact: Path, task: Task | None = None) -> Path:
    """Write `MODEL_CARD.md` and its pictures (PNG) into the artifact, and return the path of the card.

    `task` is by default the artifact's, by its name. Raises TrainingError if the artifact has not been evaluated, if no
    task has that name, or if graphviz is missing.
    """
    contents = metadata.read(artifact)
    task = task or find_task(contents.task.name)
    if contents.evidence is None:
        raise TrainingError(f"{artifact} has no evidence: run `python -m training evaluate {artifact}` first")
    if shutil.which("dot") is None:
        raise TrainingError("the program `dot` is missing, which draws the network: install graphviz")
    for old in artifact.glob("*.png"):
        old.unlink()
    pictures = diagrams(contents, task, artifact)
    pictures += learning_curves(contents.epochs, artifact)
    pictures += reliability_diagram(contents.evidence, artifact)
    pictures += wrong_shares(contents.evidence, artifact)
    pictures += wrong_answers(contents.evidence, contents.task.query_pattern, artifact)
    file = artifact / "MODEL_CARD.md"
    file.write_text(card(contents, contents.evidence, pictures))
    metadata.write(artifact, contents)
    return file


def diagrams(contents: metadata.Metadata, task: Task, folder: Path) -> Pictures:
    """Draw the layers of the encoder and of the decoder, with Keras and graphviz, unless it was trained elsewhere."""
    if contents.provenance is None:
        return []
    network = ARCHITECTURES[contents.architecture].build(task, contents.provenance.cell, contents.provenance.units)
    output = network.get_layer("encoder").output
    state = output[1:] if isinstance(output, list) else [output]  # a list repeats the last state first
    parts = {
        "encoder": keras.Model(network.inputs[0], state),
        "decoder": keras.Model([*state, *network.inputs[1:]], network.outputs),
    }
    for name, part in parts.items():
        drawn = keras.utils.model_to_dot(part, show_shapes=True, show_layer_names=True, dpi=72)
        for node in drawn.get_nodes():  # Keras generates a name for an input that is another layer's output
            node.set_label(re.sub(r"keras_tensor_?\d*CLONE", "state", node.get_label() or ""))
        try:
            drawn.write(str(folder / f"{name}.png"), format="png")
        except AssertionError as error:  # pydot raises it if dot fails
            raise TrainingError(
                "the program `dot` failed to draw the network: check the graphviz installation"
            ) from error
    return [(f"{name}.png", f"The {name}, with the shapes of its layers") for name in parts]


def learning_curves(epochs: list[metadata.Epoch], folder: Path) -> Pictures:
    """Plot the training loss by epoch, and the share of wrong validation answers if any epoch has one."""
    if not epochs:
        return []
    wrong = np.array([1 - epoch.validation_exact_match for epoch in epochs])
    figure = Figure(figsize=(9, 3))
    left, *right = figure.subplots(1, 2 if wrong.any() else 1, squeeze=False)[0]
    steps = np.arange(1, len(epochs) + 1)
    left.semilogy(steps, [epoch.loss for epoch in epochs], marker=".")
    left.set(title="training loss", xlabel="epoch")
    left.xaxis.get_major_locator().set_params(integer=True)
    for axes in right:
        axes.semilogy(steps, np.where(wrong > 0, wrong, np.nan), marker=".")
        axes.set(title="share of validation queries answered wrongly", xlabel="epoch", xlim=left.get_xlim())
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.savefig(folder / "learning_curves.png", **PNG)
    wrong_caption = ", and share of wrong validation answers; an epoch without a point has none" if right else ""
    return [("learning_curves.png", f"Training loss{wrong_caption}")]


def reliability_diagram(evidence: metadata.Evidence, folder: Path) -> Pictures:
    """Plot accuracy against confidence (Guo et al. 2017), if at least two bins have MIN_BIN_QUERIES."""
    bins = [each for each in evidence.reliability if each.queries >= MIN_BIN_QUERIES]
    if len(bins) < 2:
        return []
    figure = Figure(figsize=(4, 4))
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.7", linestyle="--")
    axes.plot([each.confidence for each in bins], [each.accuracy for each in bins], marker="o")
    for each in bins:
        axes.annotate(
            f"{each.queries:,}",
            (each.confidence, each.accuracy),
            fontsize=7,
            xytext=(4, -9),
            textcoords="offset points",
        )
    axes.set(xlabel="mean confidence", ylabel="exact-match accuracy", title="reliability, with queries in each bin")
    figure.savefig(folder / "reliability.png", **PNG)
    return [("reliability.png", "Reliability diagram: exact-match accuracy by confidence")]


def wrong_shares(evidence: metadata.Evidence, folder: Path) -> Pictures:
    """Plot the share of wrong answers by group, if at least MIN_WRONG answers are wrong."""
    if evidence.domain.wrong < MIN_WRONG or not evidence.groups:
        return []
    count = len(evidence.groups)
    figure = Figure(figsize=(3.5 * count, 3))
    for axes, (label, parts) in zip(figure.subplots(1, count, squeeze=False)[0], evidence.groups.items(), strict=True):
        bars = axes.bar(list(parts), [100 * part.wrong / part.queries for part in parts.values()])
        axes.bar_label(bars, [f"{part.wrong:,}" for part in parts.values()], fontsize=7)
        axes.tick_params(axis="x", labelsize=7)
        axes.set(xlabel=label, ylabel="% wrong")
    figure.savefig(folder / "wrong_shares.png", **PNG)
    caption = f"Share of wrong answers by {' and by '.join(evidence.groups)}; above each bar their number"
    return [("wrong_shares.png", caption)]


def wrong_answers(evidence: metadata.Evidence, query_pattern: str, folder: Path) -> Pictures:
    """Plot the numbers of the wrong queries, if these are at least MIN_WRONG, the metadata lists them all, and each is
    of two numbers."""
    if not MIN_WRONG <= evidence.domain.wrong == len(evidence.wrong_queries):
        return []
    groups = [re.fullmatch(query_pattern, query) for query in evidence.wrong_queries]
    operands = [[int(group) for group in match.groups("") if group.isdecimal()] for match in groups if match]
    if {len(numbers) for numbers in operands} != {2}:
        return []
    figure = Figure(figsize=(5, 5))
    axes = figure.subplots()
    first, second = zip(*operands, strict=True)
    axes.scatter(first, second, s=8)
    axes.set(xlabel="first operand", ylabel="second operand", title="wrong answers", aspect="equal")
    figure.savefig(folder / "wrong_answers.png", **PNG)
    return [("wrong_answers.png", "Wrong answers by first and second operand")]


def card(contents: metadata.Metadata, evidence: metadata.Evidence, pictures: Pictures) -> str:
    """Return the text of the card, with front matter in Hugging Face's format (its documentation, Model Cards)."""
    margin, mismatches = evidence.margin, evidence.litert_mismatches
    held_out = round(evidence.held_out.exact_match, 6)
    litert = "not measured, without LiteRT files" if mismatches is None else f"{mismatches:,}"
    images = "\n".join(f"![{caption}]({file})\n\n*{caption}.*\n" for file, caption in pictures)
    all_queries = f"{'a sample of' if evidence.is_sample else 'all'} {evidence.domain.queries:,} queries"
    network = f"architecture `{contents.architecture}`"
    if contents.provenance is not None:
        network += f", cell `{contents.provenance.cell}`"
    return f"""---
license: mit
library_name: tensorflow
tags: [{contents.task.name}, {contents.architecture}]
model-index:
- name: {contents.name}
  results:
  - task: {{type: text2text-generation}}
    dataset: {{name: {all_queries} of the task {contents.task.name}, type: synthetic}}
    metrics:
    - {{type: exact_match, name: exact-match accuracy on held-out queries, value: {held_out}}}
---

# {contents.name}, version {contents.version}

A recurrent network ({network}).
It reads a query such as `{contents.task.example}` character by character, and writes the answer. A query is
{contents.task.hint}.
The answers are learned and can be wrong. The model demonstrates training and serving; it is not meant for other use.

## Architecture

{_architecture(contents)}

## Accuracy

`python -m training evaluate` ran the SavedModel on {all_queries}. An answer is correct if every
character is. The split is by a hash of the query; held-out queries were not used in training.

{_accuracy_table(evidence)}
{_wrong_queries(evidence)}
- Expected calibration error: {evidence.calibration_error}
- Smallest margin (difference of the two highest probabilities of a character): {margin.smallest}, at `{margin.query}`
- LiteRT mismatches (answers that differ from the SavedModel's): {litert}

{images}
{_training_section(contents)}{_ablations_section(contents.ablations)}"""


def _architecture(contents: metadata.Metadata) -> str:
    if contents.provenance is None:
        return "The network was built and trained elsewhere. It is run as a whole: its layers are not known."
    return inspect.getdoc(ARCHITECTURES[contents.architecture].build) or ""


def _training_section(contents: metadata.Metadata) -> str:
    provenance = contents.provenance
    if provenance is None:
        return ""
    libraries = ", ".join(f"{library} {version}" for library, version in provenance.libraries.items())
    epochs = f", {len(contents.epochs)} epochs" if contents.epochs else ""  # adder/1 has no record of them
    return f"""## Training

```sh
{provenance.command}
```

Seed {provenance.seed}{epochs}, commit {provenance.git_commit}. Exported with {libraries}.
"""


def _accuracy_table(evidence: metadata.Evidence) -> str:
    parts = {"all": evidence.domain, "train": evidence.train, "validation": evidence.validation}
    parts["held-out"] = evidence.held_out
    parts |= {f"{name} {group}": part for name, found in evidence.groups.items() for group, part in found.items()}
    rows = [f"| {name} | {part.queries:,} | {part.wrong:,} | {part.exact_match:.4%} |" for name, part in parts.items()]
    return "\n".join(["| part | queries | wrong | exact-match accuracy |", "| --- | --- | --- | --- |", *rows])


def _wrong_queries(evidence: metadata.Evidence) -> str:
    if not 0 < evidence.domain.wrong < MIN_WRONG:
        return ""
    return f"\nQueries with a wrong answer: {', '.join(f'`{query}`' for query in evidence.wrong_queries)}.\n"


def _ablations_section(ablations: list[metadata.Ablation]) -> str:
    if not ablations:
        return ""
    rows = [
        f"| {each.name} | {each.epochs} | {each.train.wrong:,} of {each.train.queries:,} "
        f"| {each.validation.wrong:,} of {each.validation.queries:,} | {each.margin} |\n"
        for each in ablations
    ]
    return f"""
## Ablations

`python -m training compare` trained the default recipe again, with one hyper-parameter changed in each row.

| recipe | epochs | wrong: train | wrong: validation | smallest margin: validation |
| - | - | - | - | - |
{"".join(rows)}"""
