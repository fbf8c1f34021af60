"""Answers a second under more load than the service can answer: clients that come back as soon as they are refused."""

import time
from typing import NamedTuple

from tests.benchmarks.answers import queries
from tests.benchmarks.goal import Goal, spread
from tests.benchmarks.growth import SETTLING_SECONDS, batch
from tests.benchmarks.wrk import Load, wrk
from tests.end_to_end.conftest import Service

FULL = 8192  # queries in a batch: ADDER_MAX_BATCH_QUERIES
CONNECTIONS = {FULL: (1, 2, 8, 32, 128), 1: (64, 1000, 3000)}  # by queries in a request


class Overload(NamedTuple):
    """The load of requests with so many queries, over so many connections."""

    queries: int
    connections: int
    load: Load

    @property
    def answers_per_second(self) -> float:
        """Answers to queries; a refused request has none."""
        return self.queries * self.load.answered_per_second


def measure_overload(service: Service, seconds: int, most_connections: int) -> list[Overload]:
    """Measure each load once, of those with at most so many connections."""
    measured = []
    for count, all_connections in CONNECTIONS.items():
        path, body = ("/predict", '{"query":"%s"}') if count == 1 else batch(queries(count))
        for connections in all_connections:
            if connections <= most_connections:
                load = wrk(service.url + path, connections, seconds, body, may_be_refused=True)
                measured.append(Overload(count, connections, load))
                time.sleep(SETTLING_SECONDS)
    return measured


def overload_goals(rounds: list[list[Overload]]) -> list[Goal]:
    """The share of the most answers a second that is left with the most connections."""
    shares = [[_share(each, measured) for each in measured] for measured in rounds]
    goals = []
    for index, (queries_in_request, connections, _) in enumerate(rounds[0]):
        if connections == max(each.connections for each in rounds[0] if each.queries == queries_in_request):
            what = "single queries" if queries_in_request == 1 else f"batches of {queries_in_request}"
            name = f"answers/s to {what}, {connections} connections, relative to the most"
            goals.append(Goal.at_least(0.8, name, [share[index] for share in shares]))
    return goals


def overload_table(rounds: list[list[Overload]]) -> str:
    """A row for each load: medians over the rounds."""
    rows = [
        "| queries in a request | connections | answers/s | of the most | refused requests/s |",
        "| - | - | - | - | - |",
    ]
    for same in zip(*rounds, strict=True):
        answers = spread((each.answers_per_second for each in same), 0)
        shares = spread(_share(each, measured) for each, measured in zip(same, rounds, strict=True))
        refused = spread((each.load.refused_per_second for each in same), 1)
        rows.append(f"| {same[0].queries} | {same[0].connections} | {answers} | {shares} | {refused} |")
    return "\n".join(rows)


def _share(overload: Overload, measured: list[Overload]) -> float:
    most = max(each.answers_per_second for each in measured if each.queries == overload.queries)
    return overload.answers_per_second / most
