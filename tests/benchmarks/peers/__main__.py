"""Measure the peers and this service in turn: `python -m tests.benchmarks.peers [--small] [names...]`."""

import argparse
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from functools import partial
from pathlib import Path

import requests

from tests.benchmarks import goal
from tests.benchmarks.answers import CHECKED, check, queries
from tests.benchmarks.in_process import InProcess
from tests.benchmarks.peers import report
from tests.benchmarks.peers.environment import environment, lock, versions
from tests.benchmarks.peers.measure import measure, summary
from tests.benchmarks.peers.peer import PEERS, Peer
from tests.benchmarks.peers.server import NotServed, Target, ours, serving
from tests.benchmarks.wrk import Load, require_wrk
from tests.conftest import newest
from tests.environments import NoEnvironment

WORKERS = 2
PAGE = Path(__file__).parents[1] / "PEERS.md"


def main() -> None:
    """Print the table; a full run of all also writes PEERS.md."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.peers", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="name", help=f"measure only these: {', '.join(peer.name for peer in PEERS)}"
    )
    parser.add_argument("--small", action="store_true", help="one round of a second for each, to check that it works")
    parser.add_argument(
        "--lock", action="store_true", help="renew the locks of the peers' requirements, and measure nothing"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - {peer.name for peer in PEERS}:
        parser.error(f"unknown peer: {', '.join(sorted(unknown))}")
    if arguments.lock:
        lock()
        return
    require_wrk()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # which stops the server
    peers = [peer for peer in PEERS if not arguments.names or peer.name in arguments.names]
    rounds, warm_up_seconds, seconds = (1, 1, 1) if arguments.small else (3, 3, 8)
    artifact = newest("adder")

    servers: dict[str, Callable[[], AbstractContextManager[Target]]] = {report.OURS: partial(ours, WORKERS)}
    servers |= {peer.name: partial(serving, peer, artifact) for peer in peers}
    with closing(InProcess(artifact)) as saved_model:
        checked = queries(CHECKED)
        expected = dict(zip(checked, saved_model.answers(checked), strict=True))
    loads, failures = take_turns(servers, expected, rounds, warm_up_seconds, seconds)

    figures = {name: summary(found) for name, found in loads.items()}
    measured = [peer for peer in peers if peer.name in figures]
    shown = {report.OURS: ""} | {peer.name: version(peer, peer.distribution) for peer in measured}
    print(report.table(figures, shown), goal.table(report.goals(figures)), sep="\n\n")
    if failures:
        print(f"\nNot measured:\n\n{report.unmeasured(failures)}")
    if not arguments.small and not arguments.names:
        tensorflow = {peer.name: version(peer, "tensorflow") for peer in measured}
        facts = {"version": artifact.name, "rounds": rounds, "warm_up": warm_up_seconds, "seconds": seconds}
        PAGE.write_text(report.page(figures, shown, failures, tensorflow, facts | {"checked": CHECKED}))


def take_turns(
    servers: dict[str, Callable[[], AbstractContextManager[Target]]],
    expected: dict[str, str],
    rounds: int,
    warm_up_seconds: int,
    seconds: int,
) -> tuple[dict[str, list[dict[int, Load]]], dict[str, str]]:
    """The loads of all rounds, and the reasons of failures, by name. A server that has failed is not started again."""
    loads: dict[str, list[dict[int, Load]]] = {name: [] for name in servers}
    failures: dict[str, str] = {}
    for number in range(1, rounds + 1):
        for name in [name for name in servers if name in loads]:
            print(f"round {number} of {rounds}: {name}", end="", file=sys.stderr, flush=True)
            try:
                with servers[name]() as target:
                    found = measure(target, warm_up_seconds, seconds)
                    check(target.predict, expected)
            # The last three are raised by Service and wrk.
            except (NoEnvironment, NotServed, AssertionError, RuntimeError, requests.RequestException) as problem:
                failures[name] = " ".join(str(problem).split())[:500]
                del loads[name]
                print(f": {failures[name]}", file=sys.stderr)
                continue
            loads[name].append(found)
            speeds = ", ".join(f"{load.requests_per_second:,.0f} at {count}" for count, load in found.items())
            print(f": requests/s: {speeds}", file=sys.stderr)
    return loads, failures


def version(peer: Peer, distribution: str) -> str:
    """The version of a distribution in the environment of a peer."""
    installed = versions(environment(peer.requirements))
    return next(
        found
        for name, found in installed.items()
        if name in (distribution, f"{distribution}-cpu", f"{distribution}_cpu")
    )


if __name__ == "__main__":
    main()
