"""Private names of other packages may change with any release: two modules use some, of packages that are pinned."""

import re
import tomllib
from importlib.metadata import version

import pytest

from tests.conftest import ROOT

PRIVATE_NAMES = re.compile(r"\._(value|sum|buckets|upper_bounds|positions|m)\b|\bunreader\b|\.buf\b")


def test_two_modules_use_private_names_of_other_packages() -> None:
    modules = (ROOT / "service").rglob("*.py")
    users = {str(module.relative_to(ROOT)) for module in modules if PRIVATE_NAMES.search(module.read_text())}
    assert users == {"service/rest/gunicorn_body.py", "service/telemetry/multiprocess.py"}


@pytest.mark.parametrize("package", ["gunicorn", "prometheus-client"])
def test_a_package_with_private_names_in_use_is_pinned(package: str) -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    assert f"{package}=={version(package)}" in groups["service"]
