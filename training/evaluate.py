"""Exact-match accuracy of an artifact on all queries of its task, or on a sample of them."""

import json
import signal
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from functools import reduce
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from os import sched_getaffinity
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError
from tqdm import tqdm

from training import TrainingError, metadata
from training.engines import SERVING, Engine, Floats, LiteRTEngine, SavedModelEngine, has_litert_files
from training.examples import Part, keys, parts_of, queries_of
from training.tasks import Task, find_task
from training.tasks.task import Chunk, Labels, Texts

BATCH_SIZE = 10_000  # of all calls: XLA compiles one size
CALIBRATION_BINS = 15  # as in Guo et al. 2017
MAX_WRONG_QUERIES = 10_000  # are listed in the metadata; more are not worth reading one by one
PARTS: tuple[Part, ...] = ("held_out", "validation", "train")

Bools = npt.NDArray[np.bool_]


class Outcome(NamedTuple):
    """One value for each query: answer, bytes [N]; confidence and margin, float32 [N]; whether LiteRT gives another
    answer, bool [N], or None without LiteRT files."""

    answers: Texts
    confidence: Floats
    margins: Floats
    mismatches: Bools | None


class Tally(BaseModel):
    """What is counted of some queries. Tallies of different queries can be added.

    `groups` has the numbers of queries and of wrong answers, by grouping and group; the parts of the split are one of
    the groupings. `bins` has, for equal bins of confidence, the number of queries, the sum of their confidence and the
    number of right answers.
    """

    groups: dict[str, dict[str, tuple[int, int]]]
    bins: list[tuple[int, float, int]]
    margin: metadata.Margin
    wrong_queries: list[str]

    def __add__(self, other: "Tally") -> "Tally":
        groups = {
            name: {
                group: _sum(self.groups[name].get(group, (0, 0)), other.groups[name].get(group, (0, 0)))
                for group in sorted(self.groups[name] | other.groups[name])
            }
            for name in self.groups
        }
        return Tally(
            groups=groups,
            bins=[(a + d, b + e, c + f) for (a, b, c), (d, e, f) in zip(self.bins, other.bins, strict=True)],
            margin=min(self.margin, other.margin, key=lambda margin: (margin.smallest, margin.query)),
            wrong_queries=sorted(self.wrong_queries + other.wrong_queries)[:MAX_WRONG_QUERIES],
        )


def evaluate(artifact: Path, task: Task | None = None) -> metadata.Evidence:
    """Answer every query by the SavedModel and by LiteRT, and write the evidence into the artifact's `metadata.json`.

    `task` is by default the artifact's, by its name. If its queries are drawn, a sample is measured. Raises
    TrainingError if `artifact` is incomplete or changed, or if no task has that name.
    """
    contents = metadata.read(artifact)
    task = task or find_task(contents.task.name)
    if contents.provenance is not None and not contents.provenance.split_by_pair:
        task = replace(task, mirror=None, salt=b"", train_only=())  # the parts as they were in its training
    parts = [queries_of(task, keys(task, part)) for part in PARTS]
    engines = [
        SavedModelEngine(artifact, task),
        *([LiteRTEngine(artifact, task)] if has_litert_files(artifact) else []),
    ]
    queries, labels = np.concatenate(parts), np.repeat(PARTS, [len(part) for part in parts])
    with tqdm(total=len(queries), desc=str(artifact), unit_scale=True, unit="query") as bar:
        outcome = run(engines, queries, bar.update)
    mismatches = None if outcome.mismatches is None else int(outcome.mismatches.sum())
    return _write(artifact, evidence_of(tally(task, queries, labels, outcome), task.queries is None, mismatches))


def evaluate_whole(artifact: Path, task: Task | None = None) -> metadata.Evidence:
    """Answer every query of a task that has too many to hold at once, by LiteRT and on all cores, and write the
    evidence as `evaluate` does; the number of LiteRT mismatches remains that of the sample.

    A hidden file in the artifact has what is counted of each of the task's chunks: if the command is broken off, the
    next one goes on. Raises TrainingError as `evaluate` does, and if the task has no chunks or the artifact no LiteRT
    files.
    """
    contents = metadata.read(artifact)
    task = task or find_task(contents.task.name)
    if not task.chunks:
        raise TrainingError(f"the task {task.name} has no chunks: leave --whole out, to ask all queries or a sample")
    if not has_litert_files(artifact):
        raise TrainingError(f"{artifact} has no LiteRT files, by which --whole asks")
    progress = artifact / f".whole-{metadata.sha256((artifact / SERVING).read_bytes())[:16]}.jsonl"
    tallies = _read_tallies(progress)
    missing = [number for number in range(task.chunks) if number not in tallies]
    bar = tqdm(total=task.chunks, initial=len(tallies), desc=str(artifact), unit="chunk")
    try:
        with bar, progress.open("a") as file, closing(_ask_chunks(artifact, task, missing)) as asked:
            for number, found in asked:
                tallies[number] = found
                # A newline before it: the last line may have been broken off.
                file.write("\n" + json.dumps({"chunk": number, "tally": found.model_dump()}))
                file.flush()
                bar.update()
    except KeyboardInterrupt as interrupt:
        raise TrainingError(
            f"interrupted after {len(tallies)} of {task.chunks} chunks: the same command goes on"
        ) from interrupt
    if len(tallies) < task.chunks:
        raise TrainingError(f"a process ended after {len(tallies)} of {task.chunks} chunks: the same command goes on")
    mismatches = None if contents.evidence is None else contents.evidence.litert_mismatches
    evidence = _write(artifact, evidence_of(reduce(Tally.__add__, tallies.values()), False, mismatches))
    progress.unlink()
    return evidence


def _ask_chunks(artifact: Path, task: Task, chunks: list[int]) -> Generator[tuple[int, Tally]]:
    """Yield the tallies of chunks in the order in which they are finished.

    Each process has its share of the chunks and a pipe of its own: a ProcessPoolExecutor, whose processes share locks,
    sometimes waits for ever when they are terminated.
    """
    context, cores = get_context("spawn"), len(sched_getaffinity(0))
    processes, receivers = [], list[Connection]()
    for first in range(cores):
        receiver, sender = context.Pipe(duplex=False)
        arguments = (artifact, task.name, chunks[first::cores], sender)
        processes.append(context.Process(target=_ask_share, args=arguments, daemon=True))
        receivers.append(receiver)
        processes[-1].start()
        sender.close()  # so that the pipe ends with the process
    try:
        while receivers:
            ready = wait(receivers)
            for receiver in [each for each in receivers if each in ready]:
                try:
                    yield receiver.recv()
                except EOFError:
                    receivers.remove(receiver)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _ask_share(artifact: Path, task_name: str, chunks: list[int], sender: Connection) -> None:
    """Send the number and the tally of each chunk."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one ends the others
    task = find_task(task_name)
    engine = LiteRTEngine(artifact, task)
    for number in chunks:
        queries = cast(Chunk, task.chunk)(number)
        sender.send((number, tally(task, queries, parts_of(task, queries), run([engine], queries))))


def _read_tallies(file: Path) -> dict[int, Tally]:
    """Read what was counted before, without a last line whose writing was broken off."""
    tallies = {}
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            fields = json.loads(line)
            tallies[int(fields["chunk"])] = Tally.model_validate(fields["tally"])
        except (ValueError, KeyError, TypeError, ValidationError):
            continue
    return tallies


def run(engines: list[Engine], queries: Texts, advance: Callable[[int], object] = lambda _: None) -> Outcome:
    """Answer the queries by the first engine, and compare the answers of the second, if there is one.

    `advance` is called with the number of queries of each call."""
    rows = []
    for start in range(0, len(queries), BATCH_SIZE):
        batch = queries[start : start + BATCH_SIZE]
        padded = np.resize(batch, BATCH_SIZE)  # repeats the batch
        first, *others = [engine.predict(padded) for engine in engines]
        mismatches = [first.answers != other.answers for other in others]
        row = (first.answers, first.confidence, margins(first.answers, first.probabilities), *mismatches)
        rows.append([column[: len(batch)] for column in row])
        advance(len(batch))
    answers, confidence, margin, *mismatched = (np.concatenate(column) for column in zip(*rows, strict=True))
    return Outcome(answers, confidence, margin, mismatched[0] if mismatched else None)


def tally(task: Task, queries: Texts, parts: Labels, outcome: Outcome) -> Tally:
    """Count what the evidence consists of. `parts` is the part of each query, [N]."""
    correct = outcome.answers == task.answers(queries)
    bins = np.minimum((outcome.confidence * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    columns = [np.bincount(bins, weights, CALIBRATION_BINS) for weights in (None, outcome.confidence, correct)]
    least = int(outcome.margins.argmin())
    return Tally(
        groups={name: _count(labels, correct) for name, labels in {"part": parts, **task.groups(queries)}.items()},
        bins=[(int(count), float(confidence), int(right)) for count, confidence, right in zip(*columns, strict=True)],
        margin=metadata.Margin(query=queries[least].decode(), smallest=round(float(outcome.margins[least]), 4)),
        wrong_queries=[query.decode() for query in np.sort(queries[~correct])[:MAX_WRONG_QUERIES].tolist()],
    )


def _count(labels: Labels, correct: Bools) -> dict[str, tuple[int, int]]:
    groups, index = np.unique(labels, return_inverse=True)
    queries, wrong = np.bincount(index), np.bincount(index, ~correct)
    return {str(group): (int(queries[number]), int(wrong[number])) for number, group in enumerate(groups)}


def evidence_of(counted: Tally, is_sample: bool, mismatches: int | None) -> metadata.Evidence:
    """Compute the evidence.

    The expected calibration error is the mean difference between accuracy and mean confidence over the bins, weighted
    by the queries in each (Guo et al. 2017, arXiv 1706.04599, section 2). The bins of the reliability diagram are those
    with queries.
    """
    groups = {
        name: {group: _part(*counts) for group, counts in found.items()} for name, found in counted.groups.items()
    }
    parts = groups.pop("part")
    domain = _part(*reduce(_sum, counted.groups["part"].values()))
    surplus = sum(abs(right - confidence) for _, confidence, right in counted.bins)
    return metadata.Evidence(
        domain=domain,
        is_sample=is_sample,
        **parts,
        groups=groups,
        calibration_error=round(surplus / domain.queries, 6),
        reliability=[
            metadata.Bin(queries=count, confidence=round(confidence / count, 4), accuracy=round(right / count, 6))
            for count, confidence, right in counted.bins
            if count
        ],
        margin=counted.margin,
        litert_mismatches=mismatches,
        wrong_queries=counted.wrong_queries,
    )


def margins(answers: Texts, probabilities: Floats) -> Floats:
    """Bytes [B] and float32 [B, T, V] -> float32 [B].

    The margin of an answer is the smallest difference between the two highest probabilities, over its characters and
    its end.
    """
    second, first = np.moveaxis(np.partition(probabilities, -2, axis=-1)[..., -2:], -1, 0)  # (B, T) each
    counted = np.arange(probabilities.shape[1]) <= np.char.str_len(answers)[:, None]  # (B, T)
    margin: Floats = np.where(counted, first - second, np.float32(1)).min(axis=1)
    return margin


def measure(correct: Bools) -> metadata.Part:
    """Bool [N] -> the number of queries and of wrong answers, and the exact-match accuracy."""
    return _part(len(correct), int((~correct).sum()))


def _part(queries: int, wrong: int) -> metadata.Part:
    return metadata.Part(queries=queries, wrong=wrong, exact_match=1 - wrong / queries)


def _sum(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one[0] + other[0], one[1] + other[1]


def _write(artifact: Path, evidence: metadata.Evidence) -> metadata.Evidence:
    # Read again: another command may have changed the file meanwhile.
    metadata.write(artifact, metadata.read(artifact).model_copy(update={"evidence": evidence}))
    return evidence
