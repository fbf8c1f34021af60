"""A virtual environment for each peer: their dependencies exclude one another's, and the project's."""

import subprocess
from importlib.metadata import distributions
from pathlib import Path

from tests import environments
from tests.conftest import ROOT

REQUIREMENTS = Path(__file__).with_name("requirements").relative_to(ROOT)


def environment(requirements: str) -> Path:
    """The environment with `requirements`.txt. Raises NoEnvironment."""
    return environments.environment(f"peers/{requirements}", ROOT / REQUIREMENTS / f"{requirements}.txt")


def versions(folder: Path) -> dict[str, str]:
    """What is installed in the environment, by name."""
    packages = distributions(path=[str(path) for path in folder.glob("lib/python*/site-packages")])
    return {package.metadata["Name"].lower(): package.version for package in packages}


def lock() -> None:
    """Renew every requirements/*.txt from its .in."""
    for source in sorted((ROOT / REQUIREMENTS).glob("*.in")):
        if source.stem == "tensorflow":  # what all others begin with
            continue
        options: list[str | Path] = [
            "--quiet",
            "--upgrade",
            "--universal",
            "--python-version",
            "3.11",
            "--generate-hashes",
        ]
        options += ["--no-emit-index-url", "--no-header", "--output-file", REQUIREMENTS / f"{source.stem}.txt"]
        # By relative paths, which is how uv names them in what it writes.
        subprocess.run([environments.UV, "pip", "compile", *options, REQUIREMENTS / source.name], cwd=ROOT, check=True)
