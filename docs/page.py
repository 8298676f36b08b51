"""Take the pictures of the page of gram serve: ``python docs/page.py``, with playwright and a Chromium.

It serves SmolLM2-135M-Instruct, once as a likelihood and once as a judge, and clicks as a reader would.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).parent / "images"
PORT = 8017
URL = f"http://127.0.0.1:{PORT}"
SECONDS = 300  # for a model to load, and for an answer


@contextmanager
def served(*options: str) -> Iterator[None]:
    """``gram serve`` with these options, for the block."""
    command = [
        sys.executable,
        "-m",
        "gram",
        "serve",
        "--model",
        "smollm2-135m",
        "--port",
        str(PORT),
        *options,
    ]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    try:
        for line in server.stderr:
            if URL in line:
                break
        urllib.request.urlopen(URL, timeout=SECONDS).close()
        yield
    finally:
        server.terminate()
        server.wait(SECONDS)


def shoot(page: Any, name: str, height: int | None = None) -> None:
    """The page as it stands, whole or its first ``height`` pixels."""
    page.mouse.click(5, 5)  # away from the button
    page.wait_for_timeout(1_000)  # for its colours
    area = {} if height is None else {"clip": {"x": 0, "y": 0, "width": 1280, "height": height}}
    page.screenshot(path=IMAGES / name, full_page=True, **area)


def example(page: Any, name: str, box: str, button: str, result: str) -> None:
    """Click an example, wait until it stands in the box, click the button, and wait for the result."""
    page.get_by_role("button", name=name, exact=True).click()
    page.wait_for_function(f"document.querySelector('{box} textarea').value != ''")
    page.wait_for_timeout(500)
    page.click(button)
    page.wait_for_selector(result)


def main() -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.set_default_timeout(SECONDS * 1_000)
        with served("--kind", "likelihood", "--length-power", "1"):
            page.goto(URL)
            example(page, "A sum", "#answer-4", "#rank", "#ranking svg[role=img]")
            shoot(page, "page.png")
            page.get_by_role("tab", name="Likelihood of an answer").click()
            example(page, "Unexpected", "#read-answer", "#read", "#tokens .gram-token")
            shoot(page, "page-tokens.png", 540)
        with served("--kind", "judge"):
            page.goto(URL)
            example(page, "A fact", "#answer-3", "#rank", "#ranking svg[role=img]")
            shoot(page, "page-orders.png")
            page.get_by_role("tab", name="Typed questions").click()
            example(page, "A level", "#question", "#ask-score", "#decided table")
            shoot(page, "page-questions.png", 700)
        browser.close()


if __name__ == "__main__":
    main()
