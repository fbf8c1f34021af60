"""The configuration files at the top: each against its schema, or by its own tool, and without contradictions."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT


@pytest.mark.parametrize(
    "command",
    [
        ["hadolint", "--failure-threshold", "style", "Dockerfile"],
        ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"],
        ["check-jsonschema", "--builtin-schema", "vendor.github-workflows", ".github/workflows/test.yml"],
        ["check-jsonschema", "--builtin-schema", "vendor.dependabot", ".github/dependabot.yml"],
    ],
)
def test_file_is_valid(command: list[str]) -> None:
    program = Path(sys.executable).with_name(command[0])
    checked = subprocess.run([program, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_pre_commit_runs_the_checks_of_make_test() -> None:
    [local] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert local["repo"] == "local"
    for hook in local["hooks"]:
        assert hook.keys() == {"id", "name", "entry", "language", "pass_filenames"}
        assert (hook["language"], hook["pass_filenames"]) == ("system", False)
    [recipe] = re.findall(r"^test:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    checks = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe.splitlines()]
    assert [hook["entry"] for hook in local["hooks"]] == [check for check in checks if not check.endswith("pytest")]


def test_workflow_installs_the_packages_of_ci() -> None:
    script, workflow = ((ROOT / file).read_text() for file in (".ci/run", ".github/workflows/test.yml"))
    [wanted] = re.findall(r"^for wanted in (.*?); do", script, re.MULTILINE | re.DOTALL)
    packages = {pair.partition(":")[2] for pair in wanted.replace("\\\n", "").split()}
    [installed] = re.findall(r"apt-get install -y -qq (.*)$", workflow, re.MULTILINE)
    assert set(installed.split()) == packages - {"chromium"}  # Ubuntu's is a snap; the runner has its own


def test_dependabot_knows_every_lock() -> None:
    [pip] = [
        update
        for update in yaml.safe_load((ROOT / ".github/dependabot.yml").read_text())["updates"]
        if update["package-ecosystem"] == "pip"
    ]
    listed = subprocess.run(
        ["git", "ls-files", "*requirements*.txt"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert {f"/{Path(lock).parent}" for lock in listed.stdout.split()} == set(pip["directories"])


@pytest.mark.parametrize(
    ("version", "accepted"), [((3, 10), False), ((3, 11), True), ((3, 12), True), ((3, 13), True), ((3, 14), False)]
)
def test_make_accepts_the_pythons_that_the_locks_are_for(
    tmp_path: Path, version: tuple[int, int], accepted: bool
) -> None:
    python = tmp_path / "python"
    python.write_text(
        f"""#!{sys.executable}
import sys
sys.version_info = {(*version, 0)}
if sys.argv[1] == "-c":
    exec(sys.argv[2])
"""
    )
    python.chmod(0o755)
    command = ["make", "--file", str(ROOT / "Makefile"), f"PYTHON={python}", ".venv/bin/python"]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (made.returncode == 0) == accepted, made.stderr
    assert ("error: Python 3.11, 3.12 or 3.13 is required" in made.stderr) != accepted


def test_the_workflow_tests_the_pythons_that_make_accepts() -> None:
    [job] = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"].values()
    assert job["strategy"]["matrix"]["python-version"] == ["3.11", "3.12", "3.13"]
