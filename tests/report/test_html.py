from html.parser import HTMLParser

import pytest

from clipvg.report.html import PageImage, Report, Table, render_html, write_html

NASTY = "<script>alert('x')</script> & \"quoted\" ${title} $1"
PIXEL = b"\x89PNG fake"


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags are closed in order."""

    VOID = frozenset({"meta", "img"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.open, self.words = [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def page():
    picture = PageImage(PIXEL, "image/png", alt=NASTY, caption=NASTY, detail=NASTY)
    report = Report(
        title=NASTY,
        lead=NASTY,
        facts=[(NASTY, NASTY)],
        tables=[Table(NASTY, [NASTY, "b"], [(NASTY, NASTY)], NASTY)],
        figures=[picture],
        gallery=[picture],
        config={NASTY: {"deep": [1, NASTY]}},
        command=f"clipvg demo {NASTY}",
        timings={NASTY: 1.25},
    )
    return render_html(report)


def test_every_user_string_is_escaped_and_still_readable(page):
    parsed = Page(page)
    assert "script" not in parsed.tags
    assert parsed.words.count(NASTY) >= 9
    assert not any(name.startswith("on") for _, name, _ in parsed.attributes)


def test_nothing_is_fetched(page):
    links = [value for _, name, value in Page(page).attributes if name in {"src", "href", "srcset"}]
    assert links
    assert all(link.startswith(("data:image/", "#")) for link in links)
    assert "@import" not in page
    assert "url(" not in page


def test_pictures_have_words_and_tables_have_scopes(page):
    parsed = Page(page)
    assert [value for tag, name, value in parsed.attributes if (tag, name) == ("img", "alt")] == [
        NASTY,
        NASTY,
    ]
    assert ("th", "scope", "row") in parsed.attributes
    assert ("html", "lang", "en") in parsed.attributes


def test_empty_parts_are_left_out():
    parsed = Page(render_html(Report(title="only a title")))
    assert "section" not in parsed.tags
    assert "dl" not in parsed.tags


def test_writing_is_whole_and_makes_folders(tmp_path):
    path = write_html(Report(title="größer"), tmp_path / "new" / "report.html")
    assert "größer" in path.read_text(encoding="utf-8")
    assert [item.name for item in path.parent.iterdir()] == ["report.html"]
