"""Pictures of the board for the docs, in place of those that are there.

Run from the repository's root: ``python tests/browser/pictures.py [ENTRIES] [OUT]``; ``make browser`` does.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import chrome

from unfooled.leaderboard import board


def main(entries: Path, out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder, chrome.started() as browser:
        site = Path(folder) / "site"
        found = board.build(entries, site)
        if not found.passed:
            print(f"{entries}: no entries, no pictures")
            return
        for name, (width, height) in chrome.WIDTHS.items():
            page = browser.new_page(viewport={"width": width, "height": height})
            page.goto((site / "index.html").as_uri())
            page.screenshot(path=out / f"board-{name}.png")
        page = browser.new_page(viewport={"width": 900, "height": 800})
        page.goto((site / "index.html").as_uri())
        page.locator("section:last-of-type tbody tr th a").first.click()
        page.screenshot(path=out / "board-entry.png", full_page=True)
        print(*sorted(out.glob("board-*.png")), sep="\n")


if __name__ == "__main__":
    given = [Path(word) for word in sys.argv[1:]]
    main(*given, *[Path("leaderboard/entries"), Path("docs/pictures")][len(given) :])
