"""Load on a service while something happens to it: each answer is compared with that of the artifact alone."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

import requests

from service.models.artifact import Artifact
from tests.end_to_end.conftest import Service

CONNECTIONS = 16
PAUSE_SECONDS = 0.05  # between two requests of a connection: the service is loaded, and not overloaded


class Load:
    """Requests of many connections that name no version, and what became of them.

    `lost` are requests without a response. A response is `right` if it is what the version that it names answers; any
    other is kept in `wrong`.
    """

    def __init__(self, service: Service, queries: list[str]) -> None:
        self._service = service
        self._queries = queries
        self._expected: dict[str, dict[str, str]] = {}
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(CONNECTIONS)]
        self.right, self.refused, self.lost = 0, 0, 0
        self.wrong: list[str] = []
        self.by_version: Counter[int] = Counter()
        self.seconds: list[float] = []

    def expect(self, folder: Path) -> None:
        """Ask a version without the service. Answers of versions that were never expected are wrong."""
        artifact = Artifact.load(folder)
        answers = {query: artifact.engine.predict([query])[0].answer for query in self._queries}
        self._expected[artifact.sha256] = answers

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send requests during the `with` block."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            for thread in self._threads:
                thread.join()

    def outcome(self) -> dict[str, int]:
        """The numbers of requests that went wrong, so that a test can compare them with zeros."""
        return {"refused": self.refused, "lost": self.lost, "wrong": len(self.wrong)}

    def _ask(self) -> None:
        session = requests.Session()
        while not self._stopped.wait(PAUSE_SECONDS):
            query = random.choice(self._queries)  # noqa: S311
            started = time.monotonic()
            try:
                response = session.post(f"{self._service.url}/predict", json={"query": query}, timeout=30)
            except (requests.RequestException, HTTPException):
                self.lost += 1
                continue
            self.seconds.append(time.monotonic() - started)
            if response.status_code != 200:
                self.refused += 1
                continue
            answer = response.json()
            self.by_version[answer["model"]["version"]] += 1
            if self._expected.get(answer["model"]["sha256"], {}).get(query) == answer["answer"]:
                self.right += 1
            else:
                self.wrong.append(response.text)
