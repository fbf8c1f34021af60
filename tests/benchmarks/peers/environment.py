"""A virtual environment for each peer: their dependencies conflict with each other and with the project's."""

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
    """The versions of the packages in an environment, by name."""
    packages = distributions(path=[str(path) for path in folder.glob("lib/python*/site-packages")])
    return {package.metadata["Name"].lower(): package.version for package in packages}


def lock() -> None:
    """Renew every requirements/*.txt from its .in."""
    for source in sorted((ROOT / REQUIREMENTS).glob("*.in")):
        if source.stem == "tensorflow":  # which the others include
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
        # uv writes the paths that it is given: relative paths, therefore.
        subprocess.run([environments.UV, "pip", "compile", *options, REQUIREMENTS / source.name], cwd=ROOT, check=True)
