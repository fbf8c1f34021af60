"""PEERS.md: the figures in markdown."""

from tests.benchmarks import goal
from tests.benchmarks.goal import MET, MISSED, Goal
from tests.benchmarks.machine import machine
from tests.benchmarks.peers.measure import CONNECTIONS, Figures
from tests.benchmarks.peers.peer import PEERS

OURS = "neural-adder"
FACTOR = 2  # the goal, in times the throughput of the best peer
FOREWORD = """\
# Other ways to serve the same model

Written by `make benchmark-peers` on {machine}.

Each peer serves the SavedModel of adder {version}, by `serving_default` unless its row says otherwise, set up by its
documentation and with its fastest settings on this machine. {ours} runs as shipped, with two workers, and answers by
LiteRT with the same weights. The response of a peer has only the answer; that of {ours} also has the query, the
confidence and the model.

The servers are measured in turn in each of {rounds} rounds. One server runs at a time, and wrk on the same cores:
{warm_up} s of warm-up and {seconds} s of load with each number of connections, which are kept alive. In each round
{checked} answers of each server are compared with those of the SavedModel. The figures are medians over the rounds."""


def table(figures: dict[str, Figures], versions: dict[str, str]) -> str:
    """A row for each server, this service first."""
    rows = [
        "| | requests/s: 1 connection | 16 | 64 | p50 ms: 1 | p99 ms: 64 | ours/its: 1 | 16 | 64 |",
        "| - | - | - | - | - | - | - | - | - |",
    ]
    for name, found in figures.items():
        speeds = [f"{found.requests_per_second[count]:,.0f}" for count in CONNECTIONS]
        ratios = ["" if name == OURS else f"{_ratio(figures, name, count):.1f}" for count in CONNECTIONS]
        cells = [f"{_title(name)} {versions[name]}".strip(), *speeds]
        cells += [f"{found.p50_alone:.2f}", f"{found.p99_crowded:.1f}", *ratios]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def goals(figures: dict[str, Figures]) -> list[str]:
    """The goals as rows."""
    return [_goal(figures, count).row() for count in CONNECTIONS]


def page(
    figures: dict[str, Figures],
    versions: dict[str, str],
    failures: dict[str, str],
    tensorflow: dict[str, str],
    facts: dict[str, object],
) -> str:
    """The content of PEERS.md."""
    settings = ["| | TensorFlow | settings, and why |", "| - | - | - |"]
    settings += [
        f"| {peer.title} {versions[peer.name]} | {tensorflow[peer.name]} | {peer.settings} |"
        for peer in PEERS
        if peer.name in figures
    ]
    parts = [
        FOREWORD.format(machine=machine(), ours=OURS, **facts),
        table(figures, versions),
        goal.table(goals(figures)),
    ]
    parts += ["## Settings of the peers", "\n".join(settings)]
    if failures:
        parts += ["## Not measured", unmeasured(failures)]
    return "\n\n".join(parts) + "\n"


def unmeasured(failures: dict[str, str]) -> str:
    """The servers that could not be measured, with the reasons."""
    return "\n".join(f"- {_title(name)}: {reason}" for name, reason in failures.items())


def _goal(figures: dict[str, Figures], count: int) -> Goal:
    connections = f"{count} connection{'s' if count > 1 else ''}"
    title, bound = f"requests/s, relative to the best peer, {connections}", f"at least {FACTOR}"
    peers = figures.keys() - {OURS}
    if OURS not in figures or not peers:
        return Goal(title, bound, "", "not measured")
    best = max(peers, key=lambda name: figures[name].requests_per_second[count])
    ratio = _ratio(figures, best, count)
    return Goal(title, bound, f"{ratio:.2f} ({_title(best)})", MET if ratio >= FACTOR else MISSED)


def _ratio(figures: dict[str, Figures], name: str, count: int) -> float:
    return figures[OURS].requests_per_second[count] / figures[name].requests_per_second[count]


def _title(name: str) -> str:
    return next((peer.title for peer in PEERS if peer.name == name), name)
