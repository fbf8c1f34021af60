"""What is noted of a request on its way."""

import time
from dataclasses import dataclass, field
from typing import NamedTuple

from flask import Request

from service.models.repository import Served


@dataclass(slots=True)
class Receipt:
    """Which version a request asked, when by the monotonic clock, how many queries, how long they waited for the
    network, how long it took, and how many it answered in its last call."""

    served: Served
    asked: float = field(default_factory=time.monotonic)
    queries: int = 0
    queue_seconds: float = 0.0
    network_seconds: float = 0.0
    batch_queries: int = 0


class Ended(NamedTuple):
    """A request that has been answered: when it began by the monotonic clock, how long it took, and, where the network
    was asked, what for."""

    request: Request
    request_id: str
    status: int
    begun: float
    seconds: float
    receipt: Receipt | None
