"""The states of a trained encoder-decoder for addition, in two dimensions: along the query, and along the answer."""

from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training import fit, metadata
from training.examples import keys, queries_of
from training.networks import ARCHITECTURES, RECURRENT_LAYERS
from training.report import Pictures
from training.tasks import find_task
from training.tasks.task import Texts

QUERIES = 4000  # held-out queries
READ = ["units", "tens", "hundreds", "+", "units", "tens", "hundreds"]  # of the second operand, and of the first
COLORS = np.array(["tab:blue", "tab:red"])

States = npt.NDArray[np.float32]


def draw_states(artifact: Path, folder: Path) -> Pictures:
    """Draw the outputs of the encoder and of the decoder of a version of the task addition with the architecture
    `repeat_vector`, for held-out queries with two operands of three digits.

    Each panel has its own principal components (Pearson 1901): the two directions in which the states differ most.
    """
    task, contents = find_task("addition"), metadata.read(artifact)
    drawn = queries_of(task, keys(task, "held_out"))
    queries = drawn[np.char.str_len(drawn) == task.query_length][:QUERIES]
    encoded, decoded = _run(artifact, contents, queries)  # (B, Q, H), (B, T, H)
    left, right = (numbers.astype(int) for numbers in np.char.partition(queries, b"+")[:, [0, 2]].T)
    carries = np.array([left % place + right % place >= place for place in (10, 100, 1000)]).astype(int)  # (3, B)
    figure = Figure(figsize=(14, 2.6))
    for step, (axes, read) in enumerate(zip(figure.subplots(1, len(READ)), READ, strict=True)):
        carry = step - READ.index("+") - 1  # the place whose carry is known since this step
        points = _plane(axes, encoded[:, step])
        axes.scatter(*points.T, s=1, c=COLORS[carries[carry]] if carry >= 0 else "0.6")
        axes.set_title(f"{step + 1}. reads {read}")
    figure.savefig(folder / "states_along_the_query.png", dpi=120)
    answers = task.tokenize_answers(task.answers(queries))  # (B, T)
    figure = Figure(figsize=(14, 3.8))
    for step, axes in enumerate(figure.subplots(1, task.answer_length)):
        points = _plane(axes, decoded[:, step])
        axes.scatter(*points.T, s=1, c=COLORS[carries[-1]])
        for carry, token in np.unique([carries[-1], answers[:, step]], axis=1).T:
            middle = np.median(points[(carries[-1] == carry) & (answers[:, step] == token)], axis=0)
            axes.annotate(
                "end" if token == task.end_token else task.alphabet[token], middle, weight="bold", ha="center"
            )
        axes.set_title(f"writes character {step + 1}")
    figure.savefig(folder / "states_along_the_answer.png", dpi=120)
    return [
        (
            "states_along_the_query.png",
            "The encoder's output after each character that it reads; red from the step on which decides the carry of "
            "its place",
        ),
        (
            "states_along_the_answer.png",
            "The decoder's output at each character that it writes, and the characters; red if the sum has four digits",
        ),
    ]


def _run(artifact: Path, contents: metadata.Metadata, queries: Texts) -> tuple[States, States]:
    """The outputs of the encoder, [B, Q, H], and of the decoder, [B, T, H], by the Keras layers of the network."""
    task, provenance = find_task(contents.task.name), contents.provenance
    assert provenance is not None  # noqa: S101  for mypy
    network = ARCHITECTURES[contents.architecture].build(task, provenance.cell, provenance.units)
    network.set_weights([weight.numpy() for weight in tf.saved_model.load(str(artifact)).weights])
    every_step = RECURRENT_LAYERS[provenance.cell](provenance.units, return_sequences=True)
    outputs = [every_step(network.inputs[0]), network.get_layer("decoder").output]
    every_step.set_weights(network.get_layer("encoder").get_weights())
    characters = tf.one_hot(fit.encode(task, queries), len(task.alphabet))
    encoded, decoded = keras.Model(network.inputs, outputs).predict(characters, batch_size=1000, verbose=0)
    return encoded, decoded


def _plane(axes: Axes, states: States) -> States:
    """Project the states, [B, H], on their two principal components, [B, 2], and prepare the axes."""
    centred = states - states.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    projected: States = centred @ directions[:2].T
    return projected
