"""The README's blocks are run in a fresh copy of the repository, and what they print is compared."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from service.app import create_app
from service.settings import Settings
from tests.conftest import ROOT
from tests.end_to_end.conftest import free_port
from training import metadata

README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"^```sh\n(.*?)\n```\n(?:\n```(?:json|text)\n(.*?)\n```\n)?", re.MULTILINE | re.DOTALL)
BLOCKS: list[tuple[str, str]] = BLOCK.findall(README)
CURLS = [block for block in BLOCKS if "curl" in block[0]]
[ASK] = [block for block in BLOCKS if "-m service ask" in block[0]]

pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class Clone:
    """A folder with the files of a fresh clone, and a port for it to serve on."""

    folder: Path
    port: int

    def make(self, target: str) -> subprocess.Popen[str]:
        """`make` as a stranger has it, with nothing of this environment in its way."""
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "VIRTUAL_ENV"))
        }
        return subprocess.Popen(
            ["make", target],
            cwd=self.folder,
            env=environment | {"ADDER_PORT": str(self.port), "PYTHON": sys.executable},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def serve(self) -> tuple[subprocess.Popen[str], str]:
        """Start the service, and give what it says until it is ready."""
        serving, said = self.make("serve"), ""
        assert serving.stdout is not None
        while "curl" not in said:
            line = serving.stdout.readline()
            assert line, said
            said += line
        return serving, said


def stop(serving: subprocess.Popen[str]) -> None:
    os.killpg(serving.pid, signal.SIGINT)
    serving.communicate(timeout=60)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """One that serves, in its own first run."""
    folder = tmp_path_factory.mktemp("clone")
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")[:-1]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    clone = Clone(folder, free_port())
    serving, _ = clone.serve()
    yield clone
    stop(serving)


def alike(one: Any, other: Any) -> bool:
    """Equal, but for the last digits of what another processor computes."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(one == (pytest.approx(other, abs=5e-6) if isinstance(other, float) else other))


def test_every_block_is_known() -> None:
    commands = [command for command, _ in BLOCKS if "curl" not in command and command != ASK[0]]
    retrain = metadata.read(ROOT / "model_artifacts" / "cho2014" / "1").provenance.command
    assert commands[:3] + commands[4:] == ["make serve", "docker-compose up", "make evaluate", "make test"]
    assert commands[3].splitlines()[0] == f".venv/bin/{retrain}"
    assert len(CURLS) == 6


@pytest.mark.usefixtures("curl")
@pytest.mark.parametrize(("command", "printed"), CURLS)
def test_curl_prints_what_the_readme_says(clone: Clone, command: str, printed: str) -> None:
    here = command.replace("localhost:8000", f"127.0.0.1:{clone.port}")
    assert here != command
    done = subprocess.run(["bash", "-c", here], capture_output=True, text=True, check=True)
    told, expected = done.stdout.splitlines(), printed.splitlines()
    assert all(alike(json.loads(one), json.loads(other)) for one, other in zip(told, expected, strict=True)), told


def test_asking_on_the_command_line_prints_what_the_readme_says(clone: Clone) -> None:
    command = [*ASK[0].split(), "--url", f"http://127.0.0.1:{clone.port}"]
    asked = subprocess.run(command, cwd=clone.folder, capture_output=True, text=True, check=True)
    assert asked.stdout.strip() == ASK[1]


def test_a_second_start_installs_nothing(clone: Clone) -> None:
    again = replace(clone, port=free_port())
    serving, said = again.serve()
    stop(serving)
    assert f"curl -s 127.0.0.1:{again.port}/predict" in said
    told = [line for line in said.splitlines() if line.strip()]
    assert all("[INFO]" in line or "curl" in line for line in told), said


def test_evaluate_prints_what_the_readme_says(clone: Clone) -> None:
    [printed] = [printed for command, printed in BLOCKS if command == "make evaluate"]
    output, _ = clone.make("evaluate").communicate()
    lines = [line for line in printed.splitlines() if "calibration" not in line]
    assert len(lines) == 19
    for line in lines:
        assert line in output.splitlines()


def test_make_help_has_a_line_for_every_target(clone: Clone) -> None:
    output, _ = clone.make("help").communicate()
    [phony] = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert [line.split()[0] for line in output.splitlines()] == phony.split()


def test_the_table_of_models_is_what_is_shipped() -> None:
    rows = re.findall(r"^\| \[([\w-]+/\d+)\]\((.*?)\) \| .* \| (\S+) \| (\S+) \|$", README, re.MULTILINE)
    shipped = {}
    for folder in (ROOT / "model_artifacts").glob("*/*"):
        evidence = metadata.read(folder).evidence
        assert evidence is not None
        name = f"{folder.parent.name}/{folder.name}"
        shipped[name] = (f"model_artifacts/{name}/MODEL_CARD.md", evidence.domain.wrong, evidence.held_out.wrong)
    assert {name: (card, int(wrong), int(held_out)) for name, card, wrong, held_out in rows} == shipped


def test_the_accuracy_is_that_of_the_artifact(shipped: Path) -> None:
    evidence = metadata.read(shipped).evidence
    assert evidence is not None
    assert f"{evidence.domain.wrong} wrong of 1,000,000" in README
    assert f"exact-match accuracy {evidence.held_out.exact_match:.4%}" in README
    assert f"expected calibration error: {evidence.calibration_error}" in README


def test_the_goals_are_what_was_measured() -> None:
    results = (ROOT / "tests" / "benchmarks" / "RESULTS.md").read_text()
    goals = re.compile(r"^\| .+ \| at (?:least|most) .+ \| .+ \| (?:met|missed) \|$", re.MULTILINE)
    rows = goals.findall(README)
    assert len(rows) == 12
    assert rows == goals.findall(results)


def test_the_table_of_settings_is_the_class() -> None:
    rows = re.findall(r"^\| `(ADDER_\w+)` \| (.*?) \| (.*?) \|$", README, re.MULTILINE)
    assert rows == [
        (
            f"ADDER_{name.upper()}",
            "the cores" if field.default_factory else f"`{field.default}`",
            field.description,
        )
        for name, field in Settings.model_fields.items()
    ]


def test_the_tables_of_routes_are_what_is_served(tmp_path: Path) -> None:
    app = create_app(Settings(artifacts=tmp_path))
    served = {
        " ".join([method, re.sub("<[^<>]*:", "<", rule.rule)])
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if not re.search("/versions/|/labels/|<asset>|classify", rule.rule)  # told below the tables, or no page's own
    }
    cells = re.findall(r"^\| (`(?:GET|POST) /.*?) \|", README, re.MULTILINE)
    assert {route for cell in cells for route in re.findall("`(.+?)`", cell)} == served


@pytest.mark.parametrize("package", ["training", "service"])
def test_the_layout_is_what_is_there(package: str) -> None:
    [named] = re.findall(rf"^    {package}/.*\n((?:      .*\n)*)", README, re.MULTILINE)
    there = {file.name for file in (ROOT / package).glob("*.py")} - {"__init__.py", "__main__.py"}
    assert set(re.findall(r"^ +(\w+\.py) ", named, re.MULTILINE)) == there
