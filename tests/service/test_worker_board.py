import os

import numpy as np
import pytest

from service.worker_board import WorkerBoard


@pytest.mark.parametrize(
    ("loaded", "accepts"),
    [
        ([0, 0, 0], True),  # no worker can answer: this one reports it
        ([1, 0, 0], False),
        ([0, 1, 0], True),
        ([1, 1, 0], True),
    ],
)
def test_a_worker_without_models_takes_no_connection(loaded: list[int], accepts: bool) -> None:
    board = WorkerBoard()
    board.loaded[:3] = loaded
    assert board.may_accept(1) == accepts


@pytest.mark.parametrize(
    ("loaded", "connections", "has_most"),
    [
        ([1, 1, 0], [0, 0, 0], False),
        ([1, 1, 0], [0, 1, 0], True),
        ([1, 1, 0], [8, 10, 0], False),
        ([1, 1, 0], [8, 11, 0], True),
        ([0, 1, 0], [0, 9, 0], False),  # no other worker can answer
        ([0, 0, 0], [0, 9, 0], False),
    ],
)
def test_the_worker_with_most_connections_is_found(loaded: list[int], connections: list[int], has_most: bool) -> None:
    board = WorkerBoard()
    board.loaded[:3], board.connections[:3] = np.array(loaded), np.array(connections)
    assert board.has_most_connections(1) == has_most


def test_a_new_worker_gets_the_lowest_free_index() -> None:
    board = WorkerBoard()
    board.connections[1] = 7
    assert board.reserve([]) == 0
    assert board.reserve([0, 2]) == 1
    assert board.connections[1] == 0


def test_the_last_worker_to_load_completes_the_board() -> None:
    board = WorkerBoard()
    board.expected = 3
    assert [board.mark_loaded(index) for index in range(3)] == [False, False, True]
    board.mark_unloaded(1)
    assert board.mark_loaded(1)


def test_a_generation_is_prepared_when_all_that_answer_have_loaded_it() -> None:
    board = WorkerBoard()
    assert board.have_prepared(2)
    for index in range(2):
        board.mark_loaded(index)
    board.prepared[0] = 2
    assert not board.have_prepared(2)
    board.prepared[1] = 2
    assert board.have_prepared(2)
    board.prepared[0] = 1
    board.mark_unloaded(0)
    assert board.have_prepared(2)


def test_a_worker_is_ready_until_it_stops() -> None:
    board = WorkerBoard()
    for index in range(3):
        board.enter(index)
        board.mark_loaded(index)
    assert board.ready == 3
    board.mark_unloaded(0)
    assert (board.ready, len(board.worker_pids())) == (2, 3)
    board.leave(0)
    board.leave(1)
    assert (board.ready, board.worker_pids()) == (1, [os.getpid()])
