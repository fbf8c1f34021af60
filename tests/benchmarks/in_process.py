"""The SavedModel in a process of its own, without a server: the upper bound of any server's throughput."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


class InProcess:
    """A process that has imported TensorFlow and loaded a SavedModel. It measures itself while this process waits."""

    def __init__(self, saved_model: Path) -> None:
        # Without the TF_ variables that tests.conftest sets for the service.
        variables = {name: text for name, text in os.environ.items() if not name.startswith("TF_")}
        self._child = subprocess.Popen(
            [sys.executable, "-m", __name__, saved_model],
            cwd=Path(__file__).parents[2],
            env=variables | {"TF_CPP_MIN_LOG_LEVEL": "2"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._child.pid
        self.seconds_to_load = float(self._read())  # of `import tensorflow` and `tf.saved_model.load`

    def answers(self, queries: list[str]) -> list[str]:
        """The answers of the SavedModel, by one call."""
        answers, _ = self._measure(queries, 0)
        return list(answers)

    def queries_per_second(self, queries: list[str], seconds: float) -> float:
        """The throughput of `serving_default`, from `str` to `str`, with all the queries in each call."""
        _, queries_per_second = self._measure(queries, seconds)
        return float(queries_per_second)

    def close(self) -> None:
        """End the process."""
        self._child.communicate()

    def _measure(self, queries: list[str], seconds: float) -> tuple[list[str], float]:
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps([queries, seconds]) + "\n")
        self._child.stdin.flush()
        answers, queries_per_second = self._read()
        return answers, queries_per_second

    def _read(self) -> Any:
        assert self._child.stdout is not None
        if not (line := self._child.stdout.readline()):
            raise RuntimeError(f"the process that loads the SavedModel ended with {self._child.wait()}")
        return json.loads(line)


def main(saved_model: str) -> None:
    """In the process: print the seconds that loading took, and the answers and throughput for each line of stdin."""
    started = time.monotonic()
    import tensorflow as tf

    serve = tf.saved_model.load(saved_model).signatures["serving_default"]
    print(time.monotonic() - started, flush=True)

    def answer(queries: list[str]) -> list[str]:
        return [answer.decode() for answer in serve(query=tf.constant(queries))["answer"].numpy()]

    for line in sys.stdin:
        queries, seconds = json.loads(line)
        answers = answer(queries)  # compiles the signature for this batch size
        started, calls = time.monotonic(), 0
        while time.monotonic() < started + seconds:
            answer(queries)
            calls += 1
        print(json.dumps([answers, calls * len(queries) / (time.monotonic() - started)]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
