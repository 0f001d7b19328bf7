"""A person approves a release in the Prefect UI: a real browser, the real form."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.tasks.approve.conftest import Deployed

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-headless-shell", "google-chrome"))), None)
WITHIN_MS = 30_000


@contextmanager
def browser_page() -> Iterator[Page]:
    """A page; its event loop must be gone again before a flow is run in this thread."""
    with sync_playwright() as playwright:
        # As root Chromium has no sandbox of its own; it opens nothing but the test's own server.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 1400})
        page.set_default_timeout(WITHIN_MS)
        yield page
        browser.close()


@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium-headless-shell")
def test_a_release_is_approved_in_the_form(asking: Deployed, tmp_path: Path) -> None:
    run = asking.ask()
    ui = str(asking.api.base_url).removesuffix("/").removesuffix("/api")
    with browser_page() as page:
        page.goto(f"{ui}/v2/runs/flow-run/{run}")
        page.get_by_role("button", name="Open menu").click()
        page.get_by_role("menuitem", name="Resume").click()
        form = page.get_by_role("dialog")
        expect(form.get_by_text("documents.0002_document_category")).to_be_visible()  # the question, as Markdown
        form.get_by_role("switch").nth(0).click()  # approve
        form.get_by_role("textbox").nth(0).fill("Ada Lovelace")
        form.get_by_role("textbox").nth(1).fill("Grace Hopper")
        page.screenshot(path=tmp_path / "form.png")
        form.get_by_role("button", name="Resume").click()
        expect(form).to_be_hidden()

    asking.go_on(run)
    release = asking.release
    assert release.approval is not None
    assert (release.status, release.approval.by, release.approval.standby) == (
        "finished",
        "Ada Lovelace",
        "Grace Hopper",
    )
