import os
import subprocess
import sys

from tests.conftest import ROOT


def run_conf(code: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, with the configuration as `conf`: it configures its whole process."""
    environment = os.environ | {f"ADDER_{name}": value for name, value in settings.items()}
    command = [sys.executable, "-c", f"import service.gunicorn_conf as conf; {code}"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_the_master_imports_no_tensorflow_and_no_training() -> None:
    imported = run_conf("import sys; conf.on_starting(None); print(*sys.modules)").stdout.split()
    assert "service.app" in imported
    assert not {"tensorflow", "keras", "training"} & set(imported)


def test_gunicorn_gets_the_settings() -> None:
    configured = run_conf(
        "print(conf.workers, conf.graceful_timeout, conf.bind)", WORKERS="3", SHUTDOWN_SECONDS="7", HOST="::1", PORT="9"
    )
    assert configured.stdout.split() == ["3", "7", "[::1]:9"]


def test_no_folder_for_the_metrics_is_one_line() -> None:
    ended = run_conf("import os; os.environ['PROMETHEUS_MULTIPROC_DIR'] = '/dev/null/x'; conf.when_ready(None)")
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: the folder of the metrics cannot be created: [Errno 20] Not a directory:")
    assert len(ended.stderr.splitlines()) == 1
