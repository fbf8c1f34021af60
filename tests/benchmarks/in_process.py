"""The SavedModel in a process of its own, without a server: the bound of what serving it may cost."""

import json
import subprocess
import sys
import time
from pathlib import Path

from tests.conftest import ROOT


class InProcess:
    """A process that has imported TensorFlow and loaded a SavedModel; it measures itself, while this one waits."""

    def __init__(self, saved_model: Path) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", __name__, saved_model],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._child.pid
        self.seconds_to_load = self._read()  # of `import tensorflow` and `tf.saved_model.load`

    def queries_per_second(self, queries: list[str], seconds: float) -> float:
        """All the queries in each call of `serving_default`, from strings to strings, for so long."""
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps([queries, seconds]) + "\n")
        self._child.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End it."""
        self._child.communicate()

    def _read(self) -> float:
        assert self._child.stdout is not None
        return float(self._child.stdout.readline())


def main(saved_model: str) -> None:
    """In the process: print how long it took to load, and for each line of stdin how fast it is."""
    began = time.monotonic()
    import tensorflow as tf

    serve = tf.saved_model.load(saved_model).signatures["serving_default"]
    print(time.monotonic() - began, flush=True)
    for line in sys.stdin:
        queries, seconds = json.loads(line)
        serve(query=tf.constant(queries))  # compiled for as many
        began, calls = time.monotonic(), 0
        while time.monotonic() < began + seconds:
            serve(query=tf.constant(queries))["answer"].numpy().tolist()
            calls += 1
        print(calls * len(queries) / (time.monotonic() - began), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
