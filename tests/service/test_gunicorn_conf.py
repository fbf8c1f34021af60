import os
import subprocess
import sys

from tests.conftest import ROOT
from tests.end_to_end.conftest import free_port


def run_conf(code: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, with the configuration imported as `conf`: it changes its process."""
    environment = os.environ | {f"ADDER_{name}": value for name, value in settings.items()}
    command = [sys.executable, "-c", f"import service.gunicorn_conf as conf\n{code}"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_the_master_imports_no_tensorflow_and_no_training() -> None:
    code = """
import sys
from gunicorn.app.wsgiapp import WSGIApplication
from gunicorn.arbiter import Arbiter
sys.argv = ["gunicorn", "--config", "python:service.gunicorn_conf"]
conf.on_starting(Arbiter(WSGIApplication()))
print(*sys.modules)
"""
    imported = run_conf(code, PORT=str(free_port())).stdout.split()
    assert "service.app" in imported
    assert not {"tensorflow", "keras", "training"} & set(imported)


def test_gunicorn_gets_the_settings() -> None:
    result = run_conf(
        "print(conf.workers, conf.graceful_timeout, conf.bind)", WORKERS="3", SHUTDOWN_SECONDS="7", HOST="::1", PORT="9"
    )
    assert result.stdout.split() == ["3", "7", "[::1]:9"]


def test_no_folder_for_metrics_is_an_error_of_one_line() -> None:
    result = run_conf("import os; os.environ['PROMETHEUS_MULTIPROC_DIR'] = '/dev/null/x'; conf.when_ready(None)")
    assert result.returncode == 1
    assert result.stderr.startswith("error: the folder of the metrics cannot be created: [Errno 20] Not a directory:")
    assert len(result.stderr.splitlines()) == 1
