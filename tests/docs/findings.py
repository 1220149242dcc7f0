"""Text of docs/results.md for the tests of what it says."""

import re

from benchmarks.results import page


def plain(text):
    """Text without line breaks and emphasis."""
    return re.sub(r"\s+", " ", text.replace("**", ""))


def bullets(start, end):
    """Bullets of the page between two texts."""
    section = page.PAGE.read_text().partition(start)[2].partition(end)[0]
    return [plain(bullet) for bullet in section.split("\n- ")[1:]]
