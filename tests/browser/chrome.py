"""Where Chromium is, how it is started, and how wide screens are."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = {"phone": (375, 812), "tablet": (768, 1024), "desktop": (1280, 900)}


@contextmanager
def started() -> Iterator[Browser]:
    """Chromium without a window; its own sandbox does not work for root."""
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield chromium
        finally:
            chromium.close()
