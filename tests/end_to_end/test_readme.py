"""The blocks of all READMEs run in a fresh copy of the repository, and their output is compared."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import requests

from service.app import create_app
from service.settings import Settings
from tests.conftest import ROOT
from tests.end_to_end.conftest import free_port
from tests.environments import UV
from training import metadata

FILES = ["README.md", "service/README.md", "service/deploy/README.md", "training/README.md", "CONTRIBUTING.md"]
TEXTS = {file: (ROOT / file).read_text() for file in FILES}
README, SERVICE, DEPLOY, TRAINING, CONTRIBUTING = TEXTS.values()
BLOCK = re.compile(r"^```(?:sh|python)\n(.*?)\n```\n(?:\n```(?:json|text)\n(.*?)\n```\n)?", re.MULTILINE | re.DOTALL)
BLOCKS = {file: BLOCK.findall(text) for file, text in TEXTS.items()}
OWN = BLOCKS["training/README.md"][3:]  # the blocks of "Serve a network of your own"
CURLS: list[tuple[str, str]] = [
    block for blocks in BLOCKS.values() for block in blocks if "curl" in block[0] and block not in OWN
]

pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class Clone:
    """A folder with the files of a fresh clone, and a port for it to serve on."""

    folder: Path
    port: int
    uv: Path  # a folder with uv alone, which installs in a fifth of the time; `make test` itself has pip's way

    def make(self, target: str) -> subprocess.Popen[str]:
        """`make` as a stranger has it, with nothing of this environment in its way."""
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "VIRTUAL_ENV"))
        }
        return subprocess.Popen(
            ["make", target],
            cwd=self.folder,
            env=environment
            | {
                "ADDER_PORT": str(self.port),
                "PYTHON": sys.executable,
                "PATH": f"{self.uv}:{os.environ['PATH']}",
                "UV_COMPILE_BYTECODE": "1",  # as pip
                "ADDER_WATCH_SECONDS": "0",  # other blocks change models
            },
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
    uv = tmp_path_factory.mktemp("uv")
    (uv / "uv").symlink_to(UV)
    clone = Clone(folder, free_port(), uv)
    serving, _ = clone.serve()
    yield clone
    stop(serving)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def alike(one: Any, other: Any) -> bool:
    """Equal, but for the last digits of what another processor computes."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(one == (pytest.approx(other, abs=5e-6) if isinstance(other, float) else other))


def test_every_block_is_known() -> None:
    """Curl blocks are run below, and so are most others; the password of the proxies is stored in test_deploy.py."""
    first_words = {
        file: [command.split()[:3] for command, _ in blocks if "curl" not in command] for file, blocks in BLOCKS.items()
    }
    retrain = json.loads((ROOT / "model_artifacts/cho2014/1/metadata.json").read_text())["provenance"]["command"]
    assert first_words == {
        "README.md": [["make", "serve"], ["docker-compose", "up"], ["make", "test"]],
        "service/README.md": [
            ["from", "service.client", "import"],
            [".venv/bin/python", "-m", "service"],
            [".venv/bin/python", "-m", "service"],
        ],
        "service/deploy/README.md": [
            [".venv/bin/gunicorn", "--config", "python:service.gunicorn_conf"],
            ["kill", "-HUP", '"$(cat'],
            ["cp", "-r", "adder-3"],
            [".venv/bin/python", "-m", "service"],
            ["kill", "-USR2", '"$(cat'],
            ["password=$(openssl", "rand", "-hex"],
            ["prometheus", "--config.file=service/deploy/prometheus.yml"],
        ],
        "training/README.md": [
            ["make", "train"],
            ["make", "evaluate"],
            f".venv/bin/{retrain}".split()[:3],
            ["cat", ">", "training/tasks/sorting.py"],
            [".venv/bin/python", "-m", "training"],
            ["from", "pathlib", "import"],
        ],
        "CONTRIBUTING.md": [["make", "test"]],
    }
    assert BLOCKS["training/README.md"][2][0].splitlines()[0] == f".venv/bin/{retrain}"
    assert CURLS
    assert all(printed for _, printed in CURLS)


@pytest.mark.usefixtures("curl")
@pytest.mark.parametrize(("command", "printed"), CURLS)
def test_curl_prints_what_the_readme_shows(clone: Clone, command: str, printed: str) -> None:
    here = command.replace("localhost:8000", f"127.0.0.1:{clone.port}")
    assert here != command
    done = subprocess.run(["bash", "-c", here], capture_output=True, text=True, check=True)
    lines, expected = done.stdout.splitlines(), printed.splitlines()
    assert all(alike(json.loads(one), json.loads(other)) for one, other in zip(lines, expected, strict=True)), lines


def test_the_python_client_runs_as_the_readme_shows(clone: Clone) -> None:
    code = BLOCKS["service/README.md"][1][0].replace(":8000", f":{clone.port}")
    done = subprocess.run([sys.executable, "-c", code], cwd=clone.folder, capture_output=True, text=True, check=True)
    assert done.stdout == "579\n"


def test_the_command_line_prints_what_the_readme_shows(clone: Clone) -> None:
    command, printed = BLOCKS["service/README.md"][2]
    arguments = [*command.split(), "--url", f"http://127.0.0.1:{clone.port}"]
    done = subprocess.run(arguments, cwd=clone.folder, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == printed


def test_the_blocks_for_operators_work(clone: Clone) -> None:
    """In their order: start, look at the models, roll a version out, try a canary, start a second master."""
    start, reload, roll_out, canary, upgrade = [command for command, _ in BLOCKS["service/deploy/README.md"][:5]]
    port, pid_file = free_port(), clone.folder / "adder.pid"
    version = shutil.copytree(clone.folder / "model_artifacts/adder/2", clone.folder / "adder-3")
    metadata.write(version, metadata.read(version).model_copy(update={"version": 3}))
    environment = os.environ | {"ADDER_PORT": str(port), "ADDER_MODELS": "adder", "ADDER_WORKERS": "1"}
    environment |= {"ADDER_URL": f"http://127.0.0.1:{port}"}

    def bash(command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["bash", "-c", command], cwd=clone.folder, env=environment, start_new_session=True)

    def ready_versions() -> list[int]:
        try:
            ready = requests.get(f"http://127.0.0.1:{port}/health/ready", timeout=30).json()
        except requests.RequestException:
            return []
        return [model["version"] for model in ready["models"]]

    master = bash(f"exec {start}")
    try:
        until(lambda: ready_versions() == [2, 1])
        assert bash(reload).wait() == 0
        assert bash(roll_out).wait() == 0
        until(lambda: ready_versions() == [3, 2, 1])
        for command, default in zip(canary.splitlines(), (2, 2, 3, 2), strict=True):
            assert bash(command).wait() == 0
            until(lambda: ready_versions()[0] == default)  # noqa: B023  called here
        assert bash(upgrade).wait() == 0
        until(pid_file.with_name("adder.pid.2").exists)
        master.terminate()
        until(lambda: master.poll() == 0)
        until(lambda: ready_versions() == [2, 3, 1])
    finally:
        for pid in {int(file.read_text()) for file in clone.folder.glob("adder.pid*")} | {master.pid}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        master.wait()
        shutil.rmtree(clone.folder / "model_artifacts/adder/3", ignore_errors=True)
        (clone.folder / "model_artifacts/adder/serving.json").unlink(missing_ok=True)


def test_a_second_start_installs_nothing(clone: Clone) -> None:
    again = replace(clone, port=free_port())
    serving, said = again.serve()
    stop(serving)
    assert f"curl -s 127.0.0.1:{again.port}/predict" in said
    told = [line for line in said.splitlines() if line.strip()]
    assert all("[INFO]" in line or "curl" in line for line in told), said


def test_evaluate_prints_what_the_readme_says(clone: Clone) -> None:
    [printed] = [printed for command, printed in BLOCKS["training/README.md"] if command == "make evaluate"]
    output, _ = clone.make("evaluate").communicate()
    lines = [line for line in printed.splitlines() if "calibration" not in line]
    assert len(lines) == 19
    for line in lines:
        assert line in output.splitlines()


@pytest.mark.usefixtures("curl")
def test_a_network_of_ones_own_is_served_as_shown(clone: Clone) -> None:
    """All blocks, in their order; the service is started before it is asked."""
    create, train, ask, (ask_badly, refusal), by_keras = OWN
    models = clone.folder / "model_artifacts"
    again = replace(clone, port=free_port())

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=clone.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def answer(command: str) -> Any:
        return json.loads(run("bash", "-c", command.replace("localhost:8000", f"127.0.0.1:{again.port}")))

    clone.make(".venv/training.installed").communicate()
    try:
        run("bash", "-ec", f"{create[0]}\n{train[0]}")
        run(".venv/bin/python", "-c", by_keras[0])
        serving, _ = again.serve()
        try:
            response = answer(ask[0])
            assert (response["query"], response["model"]["name"]) == ("ebbac", "sorter")
            assert answer(ask[0].replace("sorter", "sorter-by-keras"))["answer"] == response["answer"]
            assert answer(ask_badly) == json.loads(refusal)
        finally:
            stop(serving)
    finally:
        for name in ("sorter", "sorter-by-keras"):
            shutil.rmtree(models / name, ignore_errors=True)


def test_make_help_has_a_line_for_every_target(clone: Clone) -> None:
    output, _ = clone.make("help").communicate()
    [phony] = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert [line.split()[0] for line in output.splitlines()] == phony.split()


def test_the_table_of_models_is_what_is_shipped() -> None:
    rows = re.findall(r"^\| \[([\w-]+/\d+)\]\((.*?)\) \| .* \| (\d.*) \| (\d.*) \|$", README, re.MULTILINE)
    shipped = {}

    def wrong_of(part: metadata.Part) -> str:
        return f"{part.wrong:,} of {part.queries:,}"

    for folder in (ROOT / "model_artifacts").glob("*/*"):
        evidence = metadata.read(folder).evidence
        assert evidence is not None
        name = f"{folder.parent.name}/{folder.name}"
        wrong = wrong_of(evidence.domain) + ", a sample" * evidence.is_sample
        shipped[name] = (f"model_artifacts/{name}/MODEL_CARD.md", wrong, wrong_of(evidence.held_out))
    assert {name: (card, wrong, held_out) for name, card, wrong, held_out in rows} == shipped


def test_the_accuracy_is_that_of_the_artifact(shipped: Path) -> None:
    evidence = metadata.read(shipped).evidence
    assert evidence is not None
    assert evidence.domain.wrong == 0
    assert "gives no wrong answer\nto any of the 1,000,000 queries" in README
    assert f"{evidence.domain.wrong} wrong of 1,000,000" in TRAINING
    assert f"exact-match accuracy {evidence.held_out.exact_match:.4%}" in TRAINING
    assert f"expected calibration error: {evidence.calibration_error}" in TRAINING


def test_the_figures_of_speed_were_measured() -> None:
    results = (ROOT / "tests" / "benchmarks" / "RESULTS.md").read_text()
    goals = re.compile(r"^\| .+ \| at (?:least|most) .+ \| .+ \| (?:met|missed) \|$", re.MULTILINE)
    rows = goals.findall(README)
    assert len(rows) == 3
    assert set(rows) <= set(goals.findall(results))


def test_the_table_of_settings_is_the_class() -> None:
    rows = re.findall(r"^\| `(ADDER_\w+)` \| (.*?) \| (.*?) \|$", README, re.MULTILINE)
    assert rows == [
        (
            f"ADDER_{name.upper()}",
            "the cores" if field.default_factory else f"`{field.default}`" if field.default != "" else "none",
            field.description,
        )
        for name, field in Settings.model_fields.items()
    ]


def test_the_tables_of_routes_are_complete(tmp_path: Path) -> None:
    app = create_app(Settings(artifacts=tmp_path))
    served = {
        " ".join([method, re.sub("<[^<>]*:", "<", rule.rule)])
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if not re.search("/versions/|/labels/|<asset>|classify", rule.rule)  # described below the tables, or no page
    }

    def routes(text: str) -> set[str]:
        cells = re.findall(r"^\| (`(?:GET|POST) /.*?) \|", text, re.MULTILINE)
        return {route for cell in cells for route in re.findall("`(.+?)`", cell)}

    assert routes(SERVICE) == served
    assert routes(README) < served


@pytest.mark.parametrize(("package", "text"), [("training", TRAINING), ("service", SERVICE)])
def test_the_layout_names_every_module(package: str, text: str) -> None:
    [tree] = re.findall(rf"^    {package}/.*\n((?:      .*\n)*)", text, re.MULTILINE)
    folders, named = [ROOT / package], set()
    for line in tree.splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2 - 3, line.split()[0]
        if name.endswith("/"):
            folders[depth + 1 :] = [folders[depth] / name]
        elif name.endswith(".py"):
            named.add(folders[depth] / name)
    modules = {file for file in (ROOT / package).rglob("*.py") if file.name != "__init__.py"}
    assert named >= {file for file in modules if file.name != "__main__.py"}
    assert named <= modules


@pytest.mark.parametrize("file", FILES)
def test_links_and_files_exist(file: str) -> None:
    """Links within the repository, their headings, and the files that the recipes name."""
    folder = (ROOT / file).parent
    for path, heading in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)]*))?\)", TEXTS[file]):
        target = (folder / path).resolve() if path else ROOT / file
        assert target.exists(), path
        if heading:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}, heading
    if file == "CONTRIBUTING.md":
        named = re.findall(r"`((?:service|training|tests)/[\w./-]*|[\w-]+\.(?:md|yml|toml))`", TEXTS[file])
        assert len(named) > 20
        assert not [path for path in named if not (ROOT / path).exists()]


def test_there_are_seven_recipes() -> None:
    recipes = CONTRIBUTING.partition("## Recipes")[2]
    assert len(re.findall(r"^### ", recipes, re.MULTILINE)) == 7
