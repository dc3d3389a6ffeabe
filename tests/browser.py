"""Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

PROGRAM = shutil.which("chromium")
SHOWN_MS = 30_000


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window."""
    # As root, it wants to be told that its sandbox isn't there.
    arguments = ["--no-sandbox"] if os.getuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


def view(page: Page, title: str) -> Locator:
    """One of FATE's views, once it is shown."""
    view = page.locator(f"[data-fate='{title}']")
    expect(view).to_be_visible(timeout=SHOWN_MS)
    return view
