"""The SavedModel in a process of its own, without a server: the bound of what serving it may cost."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


class InProcess:
    """A process that has imported TensorFlow and loaded a SavedModel; it measures itself, while this one waits."""

    def __init__(self, saved_model: Path) -> None:
        # What tests.conftest sets for this service's TensorFlow is not for this one.
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
        """What the SavedModel answers, by one call."""
        answers, _ = self._ask(queries, 0)
        return list(answers)

    def queries_per_second(self, queries: list[str], seconds: float) -> float:
        """All the queries in each call of `serving_default`, from `str` to `str`, for so long."""
        _, queries_per_second = self._ask(queries, seconds)
        return float(queries_per_second)

    def close(self) -> None:
        """End it."""
        self._child.communicate()

    def _ask(self, queries: list[str], seconds: float) -> tuple[list[str], float]:
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
    """In the process: print how long it took to load, and for each line of stdin what it answers, and how fast."""
    began = time.monotonic()
    import tensorflow as tf

    serve = tf.saved_model.load(saved_model).signatures["serving_default"]
    print(time.monotonic() - began, flush=True)

    def answer(queries: list[str]) -> list[str]:
        return [answer.decode() for answer in serve(query=tf.constant(queries))["answer"].numpy()]

    for line in sys.stdin:
        queries, seconds = json.loads(line)
        answers = answer(queries)  # which compiles it for as many
        began, calls = time.monotonic(), 0
        while time.monotonic() < began + seconds:
            answer(queries)
            calls += 1
        print(json.dumps([answers, calls * len(queries) / (time.monotonic() - began)]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
