"""The model card of an artifact, with its pictures; everything in it comes out of `metadata.json`."""

import inspect
import re
import shutil
from pathlib import Path

import keras
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from training import TrainingError, metadata, task
from training.networks import NETWORKS

Pictures = list[tuple[str, str]]  # of each PNG written into the folder, file name and caption

FEWEST_QUERIES = 100  # in a bin: the accuracy of fewer is chance
FEWEST_WRONG = 20  # fewer are better read than looked at

mpl.rcParams.update({"figure.constrained_layout.use": True, "axes.spines.top": False, "axes.spines.right": False})


def report(artifact: Path) -> Path:
    """Write `MODEL_CARD.md` and its pictures (PNG) into the artifact, and return the card.

    Raises TrainingError where the artifact has not been evaluated, or graphviz is missing.
    """
    described = metadata.read(artifact)
    if described.evidence is None:
        raise TrainingError(f"{artifact} has no evidence: run `python -m training evaluate {artifact}` first")
    if shutil.which("dot") is None:
        raise TrainingError("the program dot is missing, which draws the networks: install graphviz")
    for old in artifact.glob("*.png"):
        old.unlink()
    pictures = diagrams(described, artifact)
    pictures += learning_curves(described.epochs, artifact)
    pictures += reliability_diagram(described.evidence, artifact)
    pictures += wrong_shares(described.evidence, artifact)
    pictures += wrong_answers(described.evidence, artifact)
    file = artifact / "MODEL_CARD.md"
    file.write_text(card(described, described.evidence, pictures))
    metadata.write(artifact, described)
    return file


def diagrams(described: metadata.Metadata, folder: Path) -> Pictures:
    """The encoder, and what makes the characters out of its state, as Keras draws them."""
    network = NETWORKS[described.network].build(described.made.cell)
    output = network.get_layer("encoder").output
    state = output[1:] if isinstance(output, list) else [output]  # with the state comes the last output, once more
    parts = {
        "encoder": keras.Model(network.inputs[0], state),
        "decoder": keras.Model([*state, *network.inputs[1:]], network.outputs),
    }
    for name, part in parts.items():
        drawn = keras.utils.model_to_dot(part, show_shapes=True, show_layer_names=True, dpi=72)
        for node in drawn.get_nodes():  # Keras has no name for an input that was another layer's output
            node.set_label(re.sub(r"keras_tensor_?\d*CLONE", "state", node.get_label() or ""))
        try:
            drawn.write(str(folder / f"{name}.png"), format="png")
        except AssertionError as error:  # pydot's way to say that dot failed
            raise TrainingError(
                "the program dot failed, which draws the networks: see that graphviz is whole"
            ) from error
    return [(f"{name}.png", f"The {name}, with the shapes of its layers") for name in parts]


def learning_curves(epochs: list[metadata.Epoch], folder: Path) -> Pictures:
    """Loss over the epochs, and the share of validation queries that are answered wrongly, if any are."""
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
    of = ", and wrong answers on the validation pairs; an epoch without a point has none" if right else ""
    return [("learning_curves.png", f"Training loss{of}")]


def reliability_diagram(evidence: metadata.Evidence, folder: Path) -> Pictures:
    """Accuracy over confidence, where there are two bins to compare that say something (Guo et al. 2017)."""
    bins = [each for each in evidence.reliability if each.queries >= FEWEST_QUERIES]
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
    return [("reliability.png", "How often an answer of some confidence is right")]


def wrong_shares(evidence: metadata.Evidence, folder: Path) -> Pictures:
    """How many answers are wrong by the length of the operands and by the number of carries, where many are."""
    if evidence.domain.wrong < FEWEST_WRONG:
        return []
    figure = Figure(figsize=(7, 3))
    groups = {"digits of the operands": evidence.by_operand_length, "digits carried": evidence.by_carries}
    for axes, (label, parts) in zip(figure.subplots(1, 2), groups.items(), strict=True):
        bars = axes.bar(list(parts), [100 * part.wrong / part.queries for part in parts.values()])
        axes.bar_label(bars, [f"{part.wrong:,}" for part in parts.values()], fontsize=7)
        axes.tick_params(axis="x", labelsize=7)
        axes.set(xlabel=label, ylabel="% answered wrongly")
    figure.savefig(folder / "wrong_shares.png", dpi=120)
    return [("wrong_shares.png", "The share of wrong answers, and above each bar how many they are")]


def wrong_answers(evidence: metadata.Evidence, folder: Path) -> Pictures:
    """Where the wrong answers lie in the plane of the two operands, where they are many and all named."""
    if not FEWEST_WRONG <= evidence.domain.wrong == len(evidence.wrong_queries):
        return []
    operands = np.array([query.split("+") for query in evidence.wrong_queries]).astype(int)
    figure = Figure(figsize=(5, 5))
    axes = figure.subplots()
    axes.scatter(operands[:, 0], operands[:, 1], s=8)
    axes.set(xlabel="first operand", ylabel="second operand", title="wrong answers", aspect="equal")
    axes.set(xlim=(-10, task.LARGEST_OPERAND + 10), ylim=(-10, task.LARGEST_OPERAND + 10))
    figure.savefig(folder / "wrong_answers.png", dpi=120)
    return [("wrong_answers.png", "The wrong answers in the plane of the two operands")]


def card(described: metadata.Metadata, evidence: metadata.Evidence, pictures: Pictures) -> str:
    """The text; its front matter as Hugging Face reads it (its documentation, Model Cards)."""
    made, margin = described.made, evidence.margin
    libraries = ", ".join(f"{library} {version}" for library, version in made.libraries.items())
    epochs = f"for {len(described.epochs)} epochs " if described.epochs else ""
    shown = "\n".join(f"![{caption}]({file})\n\n*{caption}.*\n" for file, caption in pictures)
    return f"""---
license: mit
library_name: tensorflow
tags: [addition, {described.network}]
model-index:
- name: {described.name}
  results:
  - task: {{type: text2text-generation}}
    dataset: {{name: every query from 0+0 to {described.largest_operand}+{described.largest_operand}, type: synthetic}}
    metrics:
    - {{type: exact_match, name: exact-match accuracy on held-out queries, value: {evidence.held_out.exact_match}}}
---

# {described.name}, version {described.version}

The network `{described.network}` (cell: {made.cell}) reads a query such as `{described.query_example}` character by
character, in reverse. Its answers are learned, and may be wrong. It is there to show how such a network is made and
served, and has no other use.

{inspect.getdoc(NETWORKS[described.network].build)}

## How right it is

Every query there is, answered by this SavedModel in `python -m training evaluate`. A hash of each query decides on
which side it falls: nothing was trained on the held-out queries.

{_accuracy(evidence)}
{_wrong(evidence)}
Expected calibration error: {evidence.calibration_error}. The smallest margin between the probabilities of the first and
the second character is {margin.smallest}, at `{margin.query}`. {evidence.lite_differs:,} answers of LiteRT are not the
SavedModel's.

{shown}
## How it was made

```sh
{made.command}
```

{epochs}at commit {made.git_commit}, with seed {made.seed}, and exported by {libraries}.
{_tried(described.tried)}"""


def _accuracy(evidence: metadata.Evidence) -> str:
    parts = {"all": evidence.domain, "train": evidence.train, "validation": evidence.validation}
    parts["held-out"] = evidence.held_out
    parts |= {f"digits {length}": part for length, part in evidence.by_operand_length.items()}
    parts |= {f"digits carried: {carries}": part for carries, part in evidence.by_carries.items()}
    rows = [f"| {name} | {part.queries:,} | {part.wrong:,} | {part.exact_match:.4%} |" for name, part in parts.items()]
    return "\n".join(["| queries | how many | wrong | exact-match accuracy |", "| --- | --- | --- | --- |", *rows])


def _wrong(evidence: metadata.Evidence) -> str:
    if not 0 < evidence.domain.wrong < FEWEST_WRONG:
        return ""
    return f"\nAnswered wrongly: {', '.join(f'`{query}`' for query in evidence.wrong_queries)}.\n"


def _tried(tried: list[metadata.Tried]) -> str:
    if not tried:
        return ""
    rows = [
        f"| {each.name} | {each.epochs} | {each.train.wrong:,} of {each.train.queries:,} "
        f"| {each.validation.wrong:,} of {each.validation.queries:,} | {each.margin} |"
        for each in tried
    ]
    head = [
        "| recipe | epochs | wrong: train | wrong: validation | smallest margin: validation |",
        "| - | - | - | - | - |",
    ]
    return "\n".join(
        [
            "",
            "## What was tried",
            "",
            "By `python -m training compare`: the same network, shorter, with one thing changed in each row.",
            "",
            *head,
            *rows,
            "",
        ]
    )
