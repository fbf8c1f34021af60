"""Virtual environments for packages that conflict with the tests' own: other projects' clients, benchmark peers."""

import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

UV = Path(sys.executable).with_name("uv")


class NoEnvironment(Exception):
    """The locked packages cannot be installed on this machine."""


def environment(name: str, locked: Path) -> Path:
    """Return the environment .venv/`name`; create it if it does not exist or was installed from another lock.

    Raises NoEnvironment.
    """
    folder = ROOT / ".venv" / name
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
