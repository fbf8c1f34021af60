"""A model that tests hold in a call, so that requests wait in its queue."""

from typing import Any, TypeAlias

import gevent
from flask import Flask
from gevent.event import Event
from werkzeug.test import TestResponse

from service.models.engines.model_output import ModelOutput
from tests.service.conftest import StandIn, wait_until

PLACES = 4  # in the queue of `fill_queue`

Pending: TypeAlias = "gevent.Greenlet[..., TestResponse]"


class GatedModel(StandIn):
    """Its calls wait until a test opens it."""

    def __init__(self) -> None:
        self.called, self.opened = Event(), Event()

    def predict(self, queries: list[str]) -> list[ModelOutput]:
        self.called.set()
        assert self.opened.wait(10)
        return super().predict(queries)

    def open(self) -> None:
        self.opened.set()


def queue_size(app: Flask) -> int:
    """The number of queries in the queue of the application's default model."""
    return int(app.extensions["repository"].find().batcher.queue_size)


def start_request(app: Flask, path: str = "/predict", **options: Any) -> Pending:
    """Send a request, by default of one query, in a greenlet of its own, which reads the whole response."""
    return gevent.spawn(app.test_client().post, path, **(options or {"json": {"query": "1+1"}}))


def start_leader(app: Flask, model: GatedModel, **options: Any) -> Pending:
    """Send a request, and return when it is in its call of the model."""
    leader = start_request(app, **options)
    assert model.called.wait(10)
    return leader


def fill_queue(app: Flask) -> list[Pending]:
    """Send PLACES requests behind a leader, and return when all of them are in the queue."""
    waiting = [start_request(app) for _ in range(PLACES)]
    wait_until(lambda: queue_size(app) == PLACES)
    return waiting


def statuses(pending: list[Pending]) -> list[int]:
    return [each.get(timeout=10).status_code for each in pending]
