"""RESULTS.md and RESULTS.png: the figures as a page and a plot."""

import re
from pathlib import Path
from statistics import median
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure

from service.models.engines import EngineName
from tests.benchmarks import goal
from tests.benchmarks.engines import EngineFigures, engines_table
from tests.benchmarks.goal import Goal, spread
from tests.benchmarks.growth import CONNECTIONS, Growth
from tests.benchmarks.machine import machine
from tests.benchmarks.overload import Overload, overload_goals, overload_table
from tests.benchmarks.start import WORKERS
from tests.benchmarks.wrk import Load

mpl.rcParams.update({"figure.constrained_layout.use": True, "axes.spines.top": False, "axes.spines.right": False})

OURS, CONSTANT = "this service", "a constant answer"
PEERS = Path(__file__).with_name("PEERS.md")
FOREWORD = """\
# How fast this service is

Written by `make benchmark` on {machine}. The load generator, wrk, shared the cores with the service.

{workers} workers serve adder {version} alone. *A constant answer* is the same stack (gunicorn, the worker, Flask,
pydantic) without model and batches; *in process* is `serving_default` of the same SavedModel, called with the same 4096
strings by a process without a server. In each of {rounds} rounds the services are measured in turn, for {seconds}
seconds each, over connections that are kept alive. Figures are medians over the rounds, and in parentheses the lowest
and the highest; a ratio is taken within a round. Before, the answers to {checked} single queries and to a batch of 4096
were compared with those of the SavedModel."""
EXTRAPOLATION = """\
With {connections} connections for each worker, so that many queries share a call, a request with one query takes
{few:,.0f} µs of CPU time, and each further query of a batch {each:.1f} µs. With {most} workers a request takes
{added:.2f} times the CPU time that it takes with {alone}: workers share only the listening socket and the count of each
worker's connections. This suggests that throughput is the number of the workers' cores, divided by the CPU time of a
request: {on_32:,.0f} single queries a second on 32 cores and {on_64:,.0f} on 64, and {batches_on_32:,.0f} and
{batches_on_64:,.0f} queries a second in large batches, if the load comes from another machine. This is extrapolated
from a small machine, and was not measured. More threads are not an option: a worker is one event loop, which calls the
model."""

Loads = dict[str, dict[int, list[Load]]]  # of each round, by OURS or CONSTANT and by connections
Growths = dict[int, dict[int, list[Growth]]]  # of each round, by workers and by the queries in a request


class Batches(NamedTuple):
    """Queries a second in requests of 4096."""

    over_one: float  # connection
    over_one_each: float  # connection for each worker
    in_process: float


class Start(NamedTuple):
    """Time and memory of this service, and of bare processes that only import TensorFlow and load the SavedModel.

    `bare_seconds` is of one process, `bare_megabytes` of as many as workers.
    """

    seconds: float
    bare_seconds: float
    megabytes: float
    bare_megabytes: float


class Measurements(NamedTuple):
    """The content of the page."""

    version: str
    seconds: int
    checked: int
    loads: Loads
    batches: list[Batches]
    growths: Growths
    megabytes: dict[int, float]  # by the number of requests answered before
    engines: list[dict[EngineName, EngineFigures]]
    overloads: list[list[Overload]]  # of each round
    starts: list[Start]


def write(measurements: Measurements, folder: Path) -> str:
    """Write RESULTS.md and RESULTS.png into the folder, and return the page."""
    facts = measurements._asdict() | {"machine": machine(), "workers": WORKERS, "rounds": len(measurements.starts)}
    parts = [
        FOREWORD.format(**facts),
        goal.table([each.row() for each in goals(measurements)]),
        "`make benchmark-peers` measures [other servers](PEERS.md), in a run of its own. Its last results:",
        peers(),
        "## Single queries",
        "![Requests a second and latencies against connections](RESULTS.png)",
        load_table(measurements.loads),
        "## Overload",
        "Each connection sends its next request as soon as it has an answer or a refusal.",
        overload_table(measurements.overloads),
        "## Batches, start and memory",
        saved_model_table(measurements.batches, measurements.starts),
        memory_table(measurements.megabytes),
        "## Either engine",
        engines_table(measurements.engines),
        "## More workers, larger batches",
        growth_table(measurements.growths),
        extrapolation(measurements.growths),
    ]
    page = "\n\n".join(parts) + "\n"
    (folder / "RESULTS.md").write_text(page)
    draw(measurements.loads).savefig(folder / "RESULTS.png", dpi=120)
    return page


def goals(measurements: Measurements) -> list[Goal]:
    """The goals that this command measures."""
    return [
        *against_constant(measurements.loads),
        *against_saved_model(measurements.batches, measurements.starts),
        memory_goal(measurements),
        *overload_goals(measurements.overloads),
    ]


def against_constant(loads: Loads) -> list[Goal]:
    """The goals for single queries: how much model and batches slow down the stack."""

    def ratios(connections: int, figure: str) -> list[float]:
        pairs = zip(loads[OURS][connections], loads[CONSTANT][connections], strict=True)
        return [getattr(ours, figure) / getattr(constant, figure) for ours, constant in pairs]

    speed = "requests/s, relative to a constant answer"
    return [
        Goal.at_least(0.9, f"{speed}, 16 connections", ratios(16, "requests_per_second")),
        Goal.at_least(0.9, f"{speed}, 64 connections", ratios(64, "requests_per_second")),
        Goal.at_most(1.5, "median latency, relative to a constant answer, 1 connection", ratios(1, "p50_ms")),
        Goal.at_most(2, "p99, relative to a constant answer, 64 connections", ratios(64, "p99_ms")),
    ]


def against_saved_model(batches: list[Batches], starts: list[Start]) -> list[Goal]:
    """The goals for batches, start and memory: the cost of the server."""
    speed = "queries/s in batches of 4096, relative to the SavedModel in process"
    over_one = [batch.over_one / batch.in_process for batch in batches]
    over_one_each = [batch.over_one_each / batch.in_process for batch in batches]
    seconds = [start.seconds / start.bare_seconds for start in starts]
    megabytes = [start.megabytes / start.bare_megabytes for start in starts]
    return [
        Goal.at_least(0.8, f"{speed}, {WORKERS} connections", over_one_each),
        Goal.at_least(0.8, f"{speed}, 1 connection", over_one),
        Goal.at_most(1.5, "start to ready, relative to `import tensorflow` and `tf.saved_model.load`", seconds),
        Goal.at_most(1.3, f"memory, relative to {WORKERS} processes that did only that", megabytes),
    ]


def memory_goal(measurements: Measurements) -> Goal:
    """The goal for memory after many requests."""
    counts = list(measurements.megabytes)
    first, last = counts[0], counts[-1]
    name = f"memory after {last:,} requests, relative to that after {first:,}"
    return Goal.at_most(1.02, name, [measurements.megabytes[last] / measurements.megabytes[first]])


def peers() -> str:
    """The goals of `make benchmark-peers`, from the PEERS.md that it wrote."""
    text = PEERS.read_text() if PEERS.exists() else ""
    rows = re.findall(r"^\| requests/s, relative to the best peer.*$", text, re.MULTILINE)
    return goal.table(rows) if rows else "Not measured yet."


def load_table(loads: Loads) -> str:
    """A row for each number of connections."""
    rows = [
        "| connections | requests/s | constant answer | p50 ms | constant answer | p99 ms | constant answer |",
        "| - | - | - | - | - | - | - |",
    ]
    for connections in loads[OURS]:
        cells = [
            spread((getattr(load, figure) for load in loads[name][connections]), digits)
            for figure, digits in (("requests_per_second", 0), ("p50_ms", 2), ("p99_ms", 1))
            for name in (OURS, CONSTANT)
        ]
        rows.append(f"| {connections} | {' | '.join(cells)} |")
    return "\n".join(rows)


def saved_model_table(batches: list[Batches], starts: list[Start]) -> str:
    """This service and the SavedModel without a server."""
    header = ["| | this service | the SavedModel in process |", "| - | - | - |"]
    bound = spread((batch.in_process for batch in batches), 0)
    rows = [
        ("queries/s in batches of 4096, 1 connection", spread((batch.over_one for batch in batches), 0), bound),
        (f"the same, {WORKERS} connections", spread((batch.over_one_each for batch in batches), 0), bound),
        ("seconds to ready", spread(start.seconds for start in starts), spread(start.bare_seconds for start in starts)),
        ("MB", spread((s.megabytes for s in starts), 0), spread((s.bare_megabytes for s in starts), 0)),
    ]
    return "\n".join(header + [f"| {one} | {ours} | {bare} |" for one, ours, bare in rows])


def memory_table(megabytes: dict[int, float]) -> str:
    """The first figure, one halfway, and the last."""
    counts = list(megabytes)
    rows = [f"| {count:,} | {megabytes[count]:.1f} |" for count in (counts[0], counts[len(counts) // 2], counts[-1])]
    return "\n".join(["| requests answered | MB |", "| - | - |", *rows])


def growth_table(growths: Growths) -> str:
    """A row for each number of queries in a request."""
    header = [f"{workers} worker{'s' if workers > 1 else ''}: queries/s | µs of a core a query" for workers in growths]
    rows = [f"| queries in a request | {' | '.join(header)} |", f"| - |{' - | - |' * len(growths)}"]
    for queries in CONNECTIONS:
        cells = []
        for by_queries in growths.values():
            cells.append(f"{queries * median(growth.requests_per_second for growth in by_queries[queries]):,.0f}")
            cells.append(f"{_microseconds(by_queries[queries]) / queries:,.1f}")
        rows.append(f"| {queries} | {' | '.join(cells)} |")
    return "\n".join(rows)


def extrapolation(growths: Growths) -> str:
    """The throughput on more cores than this machine has, by the CPU time of a request."""
    few, *_, many = CONNECTIONS
    costs = {workers: _microseconds(by_queries[few]) for workers, by_queries in growths.items()}
    each = (_microseconds(growths[WORKERS][many]) - costs[WORKERS]) / (many - few)
    alone, most = min(costs), max(costs)
    return EXTRAPOLATION.format(
        connections=CONNECTIONS[few],
        few=costs[WORKERS],
        each=each,
        added=costs[most] / costs[alone],
        alone=alone,
        most=most,
        **{f"on_{cores}": cores * 1e6 / costs[WORKERS] for cores in (32, 64)},
        **{f"batches_on_{cores}": cores * 1e6 / each for cores in (32, 64)},
    )


def draw(loads: Loads) -> Figure:
    """Plot requests a second and latencies against connections; shaded from the lowest to the highest round."""
    figure = Figure(figsize=(10, 4))
    speeds, latencies = figure.subplots(1, 2)
    lines = ((speeds, "requests_per_second", "-"), (latencies, "p50_ms", "-"), (latencies, "p99_ms", "--"))
    for colour, (name, by_connections) in zip(("tab:blue", "tab:gray"), loads.items(), strict=True):
        connections = list(by_connections)
        for axes, field, style in lines:
            rounds = [[getattr(load, field) for load in found] for found in by_connections.values()]
            label = name if axes is speeds else f"{name}, {field.removesuffix('_ms')}"
            axes.plot(connections, [median(found) for found in rounds], style, color=colour, marker=".", label=label)
            least, greatest = [min(found) for found in rounds], [max(found) for found in rounds]
            axes.fill_between(connections, least, greatest, color=colour, alpha=0.15, lw=0)
    for axes in (speeds, latencies):
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(loads[OURS]), [str(connections) for connections in loads[OURS]])
        axes.set_xlabel("connections")
        axes.legend(frameon=False)
    speeds.set(ylabel="requests/s", ylim=(0, None))
    latencies.set(ylabel="latency, ms", yscale="log")
    return figure


def _microseconds(growths: list[Growth]) -> float:
    return median(growth.cpu_microseconds for growth in growths)
