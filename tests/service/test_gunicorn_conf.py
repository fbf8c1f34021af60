import subprocess
import sys

from tests.conftest import ROOT


def test_the_master_imports_no_tensorflow_and_nothing_of_training() -> None:
    code = "import sys, service.gunicorn_conf as conf; conf.on_starting(None); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"tensorflow", "keras", "training"} & set(done.stdout.split())
