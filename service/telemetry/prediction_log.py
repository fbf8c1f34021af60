"""The prediction log: a JSON line for each answered query, written by a thread, so that no answer waits for a disk."""

import logging
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import NamedTuple

from service.errors import to_json
from service.models.batcher import BatchResult
from service.models.engines.model_output import ModelOutput

FILE_BYTES = 64 << 20
OLD_FILES = 3  # of each worker, besides the one that is written
PIECE = 64  # queries that are written at once
MAX_PIECES = 256  # that wait to be written; more are dropped


class Piece(NamedTuple):
    """Queries of one request, and their outputs."""

    time: datetime
    request_id: str
    model: tuple[str, str]  # name and version
    queries: list[str]
    outputs: list[ModelOutput]
    milliseconds: float  # in the queue and in inference

    def lines(self) -> str:
        """A line for each query."""
        time, (name, version) = self.time.isoformat(timespec="milliseconds"), self.model
        common = {"time": time, "request_id": self.request_id, "model": name, "version": int(version)}
        return "\n".join(
            to_json(
                common
                | {
                    "query": query,
                    "answer": output.answer,
                    "confidence": round(output.confidence, 6),
                    "milliseconds": round(self.milliseconds, 3),
                }
            )
            for query, output in zip(self.queries, self.outputs, strict=True)
        )


class PredictionLog:
    """The log of one worker: `predictions-<index>.ndjson` in a folder, and older files with a number behind it.

    What cannot be written, as the disk is full, or waits for too long, is dropped and reported.
    """

    def __init__(self, folder: Path, index: int, report_dropped: Callable[[tuple[str, str], int], None]) -> None:
        """`report_dropped` receives name and version of a model, and a number of queries, in another thread too."""
        self._report_dropped = report_dropped
        self._pieces: queue.Queue[Piece] = queue.Queue(MAX_PIECES)
        self._file = _File(folder / f"predictions-{index}.ndjson")
        threading.Thread(target=self._write, name="prediction-log", daemon=True).start()

    def add(
        self, request_id: str, model: tuple[str, str], queries: list[str], result: BatchResult[ModelOutput]
    ) -> None:
        """Log the queries of a call of the model, which are not changed afterwards."""
        now, milliseconds = datetime.now(UTC), 1000 * (result.queue_seconds + result.inference_seconds)
        for start in range(0, len(queries), PIECE):
            part = slice(start, start + PIECE)
            piece = Piece(now, request_id, model, queries[part], result.outputs[part], milliseconds)
            try:
                self._pieces.put_nowait(piece)
            except queue.Full:
                self._report_dropped(piece.model, len(piece.queries))

    def _write(self) -> None:
        while True:
            piece = self._pieces.get()
            if not self._file.write(piece.lines()):
                self._report_dropped(piece.model, len(piece.queries))
            self._pieces.task_done()


class _File(RotatingFileHandler):
    """A file that is rotated by size. An error closes it; the next line opens it again."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=FILE_BYTES, backupCount=OLD_FILES, encoding="ascii", delay=True)
        self._failed = False

    def write(self, lines: str) -> bool:
        """Write lines; return whether they are in the file."""
        self._failed = False
        try:
            if self.stream is None:
                Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
            self.emit(logging.makeLogRecord({"msg": "%s", "args": (lines,)}))
        except OSError:
            return False
        return not self._failed

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802
        """Replace logging's own, which prints a traceback."""
        self._failed = True
        stream, self.stream = self.stream, None
        with suppress(OSError):  # which it raises again
            if stream is not None:
                stream.close()
