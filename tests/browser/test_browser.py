"""The board in Chromium: sorting, filtering, an entry's page, silence on the console and on the network, axe.

Needs Playwright, axe and Chromium, which ``make browser`` and ``make browser-short`` see to; what is absent is skipped,
by name, or fails where ``UNFOOLED_BROWSER`` is set.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import entries
from test_checker import verification

from unfooled.leaderboard import board, checker, submission
from unfooled.leaderboard.entry import VERIFIED, as_json

if not os.environ.get("UNFOOLED_BROWSER"):
    for needed in ("playwright.sync_api", "axe_playwright_python"):
        pytest.importorskip(needed, reason=f"{needed} is not installed; `make browser` installs it")

import chrome

if chrome.CHROMIUM is None:
    missing = "chromium is not installed; `make browser` installs it"
    if os.environ.get("UNFOOLED_BROWSER"):
        raise RuntimeError(missing)
    pytest.skip(missing, allow_module_level=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Ranked entries, canaries, one verified, one that differs."""
    known, folder = {"synthetic": entries.reference()}, tmp_path_factory.mktemp("entries")
    made = entries.run()
    for label in made.header["interpreters"]:
        submission.write(entries.entry(made, label, known["synthetic"]), folder)
    for one in entries.many(6):
        submission.write(one, folder)
    for filed in checker.check([folder / f"synthetic-{n}.json" for n in ("smooth", "cam")], known).passed:
        outcome = "verified" if filed.entry.name == "smooth" else "differs"
        beside = folder / filed.path.name.replace(".json", VERIFIED)
        beside.write_bytes(as_json(verification(filed.digest, outcome)))
    out = folder / "site"
    assert board.build(folder, out, known).complaints == []
    return out


@pytest.fixture(scope="module")
def browser():
    with chrome.started() as chromium:
        yield chromium


@pytest.fixture
def page(browser, site):
    """The board; afterwards nothing may stand on the console and nothing may have been asked of anybody."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened, said, asked = context.new_page(), [], []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto((site / "index.html").as_uri())
    yield opened
    context.close()
    assert said == []
    assert all(url.startswith((site.as_uri(), "data:")) for url in asked)


def names(page) -> list[str]:
    return page.locator("tbody tr:visible th").all_inner_texts()


def column(page, title: str) -> list[str]:
    heads = [text.strip() for text in page.locator("thead th").all_inner_texts()]
    n = heads.index(title) + 1
    return [t.split("\n")[0] for t in page.locator(f"tbody tr:visible > :nth-child({n})").all_inner_texts()]


@pytest.mark.short
def test_sorting_turns_round_and_keeps_what_is_undefined_below(page):
    transfer = page.get_by_role("button", name="Transfer")
    head = page.locator("thead th", has=transfer)
    for direction in ("descending", "ascending"):
        transfer.click()
        assert head.get_attribute("aria-sort") == direction
        assert page.locator('thead th[aria-sort]:not([aria-sort="none"])').count() == 1
        shown = column(page, "Transfer")
        numbers = [float(t) for t in shown if t != "–"]
        assert numbers == sorted(numbers, reverse=direction == "descending")
        assert shown[len(numbers) :] == ["–"] * (len(shown) - len(numbers))
        assert len(numbers) == 10


def test_sorting_by_words_and_by_keyboard(page):
    page.get_by_role("button", name="Interpreter").focus()
    page.keyboard.press("Enter")
    assert names(page) == sorted(names(page), key=str.lower)
    page.keyboard.press("Space")
    assert names(page) == sorted(names(page), key=str.lower, reverse=True)


@pytest.mark.short
def test_filters_narrow_and_say_how_many_are_left(page):
    everyone = len(names(page))
    page.get_by_label("Name").fill("method 00")
    assert len(names(page)) == 6
    assert f"6 of {everyone} entries shown" in page.locator("output").inner_text()
    page.get_by_label("Name").fill("")
    page.get_by_label("Family").select_option("activations")
    assert set(column(page, "Family")) == {"activations"}
    page.get_by_label("Family").select_option("")
    page.get_by_label("Verified only").check()
    assert names(page) == ["smooth"]
    page.get_by_label("Verified only").uncheck()
    page.get_by_label("Canaries").uncheck()
    assert len(names(page)) == everyone - 2


@pytest.mark.short
def test_an_entry_has_a_page_with_its_figures(page):
    page.get_by_role("link", name="smooth").click()
    assert page.locator("h1").inner_text() == "smooth"
    assert page.locator("svg").count() == 3
    assert page.locator("svg").first.locator("circle").count() == 2
    assert page.get_by_text("own namespace").is_visible()
    assert page.get_by_text("the moon").is_visible()  # what was not checked
    page.get_by_role("link", name="The board").click()
    assert page.locator("h1").inner_text() == "unfooled: the board"


def test_downloads_are_offered(page):
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click(modifiers=["Alt"])
    assert Path(download.value.path()).read_text().startswith("name,family,")


def test_without_a_script_the_table_is_all_there(browser, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((site / "index.html").as_uri())
    assert page.locator("tbody tr").count() == 12
    assert not page.locator(".tools").is_visible()
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", chrome.WIDTHS)
def test_pages_fit_every_width(browser, site, width, scheme):
    wide, high = chrome.WIDTHS[width]
    context = browser.new_context(viewport={"width": wide, "height": high}, color_scheme=scheme)
    page = context.new_page()
    for name in ("index", "entry/synthetic-smooth"):
        page.goto((site / f"{name}.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= wide
        assert page.locator("h1").is_visible()
    context.close()


PAGES = ("index", "entry/synthetic-smooth", "entry/synthetic-constant")


@pytest.mark.parametrize(
    ("name", "scheme"),
    [pytest.param("index", "light", marks=pytest.mark.short)]
    + [(name, scheme) for name in PAGES for scheme in ("light", "dark") if (name, scheme) != ("index", "light")],
)
def test_axe_finds_no_fault(browser, site, name, scheme):
    # axe is put in from outside, which the page's own policy forbids
    context = browser.new_context(color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    page.goto((site / f"{name}.html").as_uri())
    page.add_script_tag(path=Path(importlib.util.find_spec("axe_playwright_python").origin).with_name("axe.min.js"))
    found = page.evaluate("axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'best-practice']})")
    context.close()
    assert [(v["id"], [n["html"] for n in v["nodes"]][:3]) for v in found["violations"]] == []
    assert len(found["passes"]) > 15
