"""Real Chromium; `python -m tests.end_to_end.browser` takes the picture of the page that README.md shows."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.conftest import missing
from tests.end_to_end.conftest import running

PICTURE = Path(__file__).parent / "page.png"


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the system's Chromium; skip the test where it is missing."""
    path = shutil.which("chromium")
    if path is None:
        missing("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def take_picture(file: Path) -> None:
    """Take a screenshot of the page with an answer."""
    with running(port=8000, workers=1), chromium() as browser:
        page = browser.new_page(viewport={"width": 1200, "height": 900}, reduced_motion="reduce")
        page.goto("http://localhost:8000/?query=123%2B456")
        page.locator("#layers canvas").last.wait_for()
        page.screenshot(path=file, full_page=True)


if __name__ == "__main__":
    take_picture(PICTURE)
