"""Each link of README and docs/ resolves: the file exists, and the heading. Those of other sites are not followed."""

import re

import pytest
from markdown_blocks import PAGES, ROOT, anchors

LINK = re.compile(r"(?<!!)\[[^]]*\]\(([^)\s]+)\)")
REPOSITORY_PAGES = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "examples/README.md"]


def links(page):
    """(file, anchor) of each link of a page to this repository."""
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            file, _, anchor = target.partition("#")
            yield (page.parent / file).resolve() if file else page, anchor


@pytest.mark.parametrize("page", REPOSITORY_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_link_of_page_resolves(page):
    dead = [
        f"{file.relative_to(ROOT)}#{anchor}"
        for file, anchor in links(page)
        if not file.exists() or (anchor and anchor not in anchors(file))
    ]
    assert not dead


def test_each_question_is_two_clicks_from_the_front_pages():
    """One to the questions, one to the page that says more."""
    questions = ROOT / "docs/faq.md"
    for front in (ROOT / "README.md", ROOT / "docs/index.md"):
        assert (questions, "") in links(front)
    parts = re.split(r"^### ", questions.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert len(parts) == 25
    assert not [part.splitlines()[0] for part in parts if not LINK.search(part)]
