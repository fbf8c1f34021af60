"""A virtual environment for each peer: their dependencies exclude one another's, and the project's."""

import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

from tests.conftest import ROOT

UV = Path(sys.executable).with_name("uv")
REQUIREMENTS = Path(__file__).with_name("requirements").relative_to(ROOT)


class NoEnvironment(Exception):
    """A peer's requirements cannot be installed here."""


def environment(requirements: str) -> Path:
    """The environment with `requirements`.txt, made where it is not there or is of other requirements.

    Raises NoEnvironment.
    """
    folder = ROOT / ".venv" / "peers" / requirements
    locked = ROOT / REQUIREMENTS / f"{requirements}.txt"
    installed = folder / "installed.txt"
    if not installed.exists() or installed.read_bytes() != locked.read_bytes():
        commands: list[list[str | Path]] = [
            ["venv", "--clear", "--python", sys.executable, folder],
            ["pip", "sync", "--python", folder / "bin" / "python", "--require-hashes", locked],
        ]
        for command in commands:
            ran = subprocess.run([UV, "--quiet", *command], capture_output=True, text=True, check=False)
            if ran.returncode != 0:
                raise NoEnvironment(f"it cannot be installed: {' '.join(ran.stderr.split())[:300]}")
        installed.write_bytes(locked.read_bytes())
    return folder


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
        subprocess.run([UV, "pip", "compile", *options, REQUIREMENTS / source.name], cwd=ROOT, check=True)
