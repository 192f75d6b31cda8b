"""docs/detections.md is what the rules and the tables say."""

from detections import PAGE, page


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(), "make docs"
