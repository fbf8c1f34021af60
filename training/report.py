"""The model card of an artifact and its pictures, made from `metadata.json`."""

import inspect
import re
import shutil
from pathlib import Path

import keras
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from training import TrainingError, metadata, task
from training.networks import ARCHITECTURES

Pictures = list[tuple[str, str]]  # file name and caption of each PNG

MIN_BIN_QUERIES = 100  # the accuracy of fewer queries is too noisy to plot
MIN_WRONG = 20  # fewer wrong answers are listed, not plotted

mpl.rcParams.update({"figure.constrained_layout.use": True, "axes.spines.top": False, "axes.spines.right": False})


def report(artifact: Path) -> Path:
    """Write `MODEL_CARD.md` and its pictures (PNG) into the artifact, and return the path of the card.

    Raises TrainingError if the artifact has not been evaluated, or graphviz is missing.
    """
    contents = metadata.read(artifact)
    if contents.evidence is None:
        raise TrainingError(f"{artifact} has no evidence: run `python -m training evaluate {artifact}` first")
    if shutil.which("dot") is None:
        raise TrainingError("the program `dot` is missing, which draws the network: install graphviz")
    for old in artifact.glob("*.png"):
        old.unlink()
    pictures = diagrams(contents, artifact)
    pictures += learning_curves(contents.epochs, artifact)
    pictures += reliability_diagram(contents.evidence, artifact)
    pictures += wrong_shares(contents.evidence, artifact)
    pictures += wrong_answers(contents.evidence, artifact)
    file = artifact / "MODEL_CARD.md"
    file.write_text(card(contents, contents.evidence, pictures))
    metadata.write(artifact, contents)
    return file


def diagrams(contents: metadata.Metadata, folder: Path) -> Pictures:
    """Draw the layers of the encoder and of the decoder, with Keras and graphviz."""
    network = ARCHITECTURES[contents.architecture].build(contents.provenance.cell)
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
    figure.savefig(folder / "learning_curves.png", dpi=120)
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
    figure.savefig(folder / "reliability.png", dpi=120)
    return [("reliability.png", "Reliability diagram: exact-match accuracy by confidence")]


def wrong_shares(evidence: metadata.Evidence, folder: Path) -> Pictures:
    """Plot the share of wrong answers by operand length and by carries, if at least MIN_WRONG answers are wrong."""
    if evidence.domain.wrong < MIN_WRONG:
        return []
    figure = Figure(figsize=(7, 3))
    groups = {"digits of the operands": evidence.by_operand_length, "carries": evidence.by_carries}
    for axes, (label, parts) in zip(figure.subplots(1, 2), groups.items(), strict=True):
        bars = axes.bar(list(parts), [100 * part.wrong / part.queries for part in parts.values()])
        axes.bar_label(bars, [f"{part.wrong:,}" for part in parts.values()], fontsize=7)
        axes.tick_params(axis="x", labelsize=7)
        axes.set(xlabel=label, ylabel="% wrong")
    figure.savefig(folder / "wrong_shares.png", dpi=120)
    caption = "Share of wrong answers by operand length and by carries; above each bar their number"
    return [("wrong_shares.png", caption)]


def wrong_answers(evidence: metadata.Evidence, folder: Path) -> Pictures:
    """Plot the operands of the wrong queries, if these are at least MIN_WRONG and the metadata lists them all."""
    if not MIN_WRONG <= evidence.domain.wrong == len(evidence.wrong_queries):
        return []
    operands = np.array([query.split("+") for query in evidence.wrong_queries]).astype(int)
    figure = Figure(figsize=(5, 5))
    axes = figure.subplots()
    axes.scatter(operands[:, 0], operands[:, 1], s=8)
    axes.set(xlabel="first operand", ylabel="second operand", title="wrong answers", aspect="equal")
    axes.set(xlim=(-10, task.LARGEST_OPERAND + 10), ylim=(-10, task.LARGEST_OPERAND + 10))
    figure.savefig(folder / "wrong_answers.png", dpi=120)
    return [("wrong_answers.png", "Wrong answers by first and second operand")]


def card(contents: metadata.Metadata, evidence: metadata.Evidence, pictures: Pictures) -> str:
    """Return the text of the card, with front matter in Hugging Face's format (its documentation, Model Cards)."""
    provenance, margin = contents.provenance, evidence.margin
    libraries = ", ".join(f"{library} {version}" for library, version in provenance.libraries.items())
    epochs = f", {len(contents.epochs)} epochs" if contents.epochs else ""  # adder/1 has no record of them
    images = "\n".join(f"![{caption}]({file})\n\n*{caption}.*\n" for file, caption in pictures)
    return f"""---
license: mit
library_name: tensorflow
tags: [addition, {contents.architecture}]
model-index:
- name: {contents.name}
  results:
  - task: {{type: text2text-generation}}
    dataset: {{name: every query from 0+0 to {contents.largest_operand}+{contents.largest_operand}, type: synthetic}}
    metrics:
    - {{type: exact_match, name: exact-match accuracy on held-out queries, value: {evidence.held_out.exact_match}}}
---

# {contents.name}, version {contents.version}

A recurrent network (architecture `{contents.architecture}`, cell `{provenance.cell}`) that reads a query such as
`{contents.query_example}` character by character, in reverse, and writes the answer. The answers are learned and can be
wrong. The model demonstrates training and serving; it is not meant for other use.

## Architecture

{inspect.getdoc(ARCHITECTURES[contents.architecture].build)}

## Accuracy

`python -m training evaluate` ran the SavedModel on all queries. An answer is correct if every character is. The split
is by a hash of the query; held-out queries were not used in training.

{_accuracy_table(evidence)}
{_wrong_queries(evidence)}
- Expected calibration error: {evidence.calibration_error}
- Smallest margin (difference of the two highest probabilities of a character): {margin.smallest}, at `{margin.query}`
- LiteRT mismatches (answers that differ from the SavedModel's): {evidence.litert_mismatches:,}

{images}
## Training

```sh
{provenance.command}
```

Seed {provenance.seed}{epochs}, commit {provenance.git_commit}. Exported with {libraries}.
{_ablations_section(contents.ablations)}"""


def _accuracy_table(evidence: metadata.Evidence) -> str:
    parts = {"all": evidence.domain, "train": evidence.train, "validation": evidence.validation}
    parts["held-out"] = evidence.held_out
    parts |= {f"digits {length}": part for length, part in evidence.by_operand_length.items()}
    parts |= {f"carries {carries}": part for carries, part in evidence.by_carries.items()}
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
