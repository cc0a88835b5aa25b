"""The built site, as a reader clicks through it. `make docs` builds it; CI does so before the tests."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_blocks import ROOT

SITE = ROOT / "build/site"

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(not (SITE / "index.html").exists(), reason="`make docs` builds the site"),
]


class _Article(HTMLParser):
    """Anchors of a page, and the links of its text by the question (h3) that they follow."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: dict[str, list[str]] = {"": []}
        self._in_text, self._question = False, ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.anchors.add(given.get("id") or "")
        self._in_text |= tag == "article"
        if tag in ("h2", "h3"):
            self._question = (given.get("id") or "") if tag == "h3" else ""
        target = given.get("href") or ""
        if tag == "a" and self._in_text and "headerlink" not in (given.get("class") or ""):
            self.links.setdefault(self._question, []).append(target)

    def handle_endtag(self, tag: str) -> None:
        self._in_text &= tag != "article"


def read(page: Path) -> _Article:
    article = _Article()
    article.feed(page.read_text(encoding="utf-8"))
    return article


def reached(page: Path, link: str) -> tuple[Path, str] | None:
    """The page of the site and its anchor that a click on `link` opens; None for another site."""
    if link.startswith(("http://", "https://")):
        return None
    place, _, anchor = unquote(link).partition("#")
    target = (page.parent / place).resolve() if place else page
    return (target / "index.html" if target.is_dir() else target), anchor


def test_each_question_is_answered_within_two_clicks():
    front = SITE.resolve() / "index.html"
    first = {opened[0] for link in read(front).links[""] if (opened := reached(front, link))}
    questions = SITE.resolve() / "faq/index.html"
    assert questions in first
    asked = {question: links for question, links in read(questions).links.items() if question}
    assert len(asked) == 25
    for question, links in asked.items():
        second = [opened for link in links if (opened := reached(questions, link))]
        assert second, f"{question} leads to no page"
        for page, anchor in second:
            assert page.exists(), f"{question}: {page} is not there"
            assert not anchor or anchor in read(page).anchors, f"{question}: {page} has no #{anchor}"
