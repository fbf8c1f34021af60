"""Schemathesis, with all its checks, against the OpenAPI document and the running service."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.end_to_end.conftest import running


def test_schemathesis_finds_no_failure(tmp_path: Path) -> None:
    config = Path(__file__).with_name("schemathesis.toml")
    st = Path(sys.executable).with_name("st")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}  # for its hooks
    # Without adder-4: the schema of a query does not depend on the model that a request names.
    with running(models="adder,cho2014,last-digit,sutskever2014") as service:
        command = [str(st), "--config-file", str(config), "run", f"{service.url}/openapi.json"]
        run = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False
        )
    assert run.returncode == 0, run.stdout + run.stderr
