"""The tutorial's two scripts in today's form, as STUDY.md prints them."""

import json
import re
import subprocess
import sys

from tests.conftest import ROOT
from training.networks import ARCHITECTURES
from training.tasks import find_task

# Each script ends with `fit`; these lines look at what it leaves.
MEASURE = """
import json
print(json.dumps([model.count_params(), list(model.output_shape), *model.history.history["loss"]]))
"""


def test_the_scripts_build_and_train_the_networks_of_this_package() -> None:
    data, *scripts = re.findall(r"```python\n(.*?)```", (ROOT / "training/study/STUDY.md").read_text(), re.DOTALL)
    code = data + "".join(script + MEASURE for script in scripts)
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("[")]
    networks = [("simple_rnn_classifier", "simple_rnn", "last-digit"), ("repeat_vector", "lstm", "addition")]
    for (weights, shape, loss), (name, cell, task) in zip(found, networks, strict=True):
        network = ARCHITECTURES[name].build(find_task(task), cell, 128)
        assert (weights, shape[-1]) == (network.count_params(), 12)
        assert 1 < loss < 2.5  # nearly untrained: the logarithm of 12 characters is 2.48
