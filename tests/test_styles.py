"""Colors and markers of estimators."""

import itertools

import pytest

from rebar import registry, styles
from rebar.errors import RebarError


def test_built_in_estimators_have_distinct_styles_within_their_family():
    """Colors and markers of binary estimators; there are more categorical ones than colors."""
    labels = list(registry.labels("binary"))
    found = [styles.STYLES[label] for label in labels]
    assert len({s.color for s in found}) == len({s.marker for s in found}) == len(labels)
    labels = list(registry.labels("categorical"))
    assert set(labels) <= set(styles.STYLES)
    assert len(set(styles.styles(labels))) == len(labels)


def test_unknown_labels_get_colors_of_their_own():
    known = ["NVIL", "DisARM", "RELAX"]
    unknown = ["Own", "Mine", "Mine2", "Yours", "C", "D"]
    for two in itertools.permutations(unknown, 2):
        found = styles.styles([*known, *two])
        assert len({style.color for style in found}) == 5
        assert found[:3] == [styles.STYLES[label] for label in known]
    assert len(set(styles.styles([f"Mine{i}" for i in range(40)]))) == 40
    assert styles.styles(["Mine"]) == styles.styles(["Mine"])


def test_lines_of_one_label_get_other_markers():
    first, second, third = styles.styles(["DisARM", "LOO", "DisARM"])
    assert (first, second) == (styles.STYLES["DisARM"], styles.STYLES["LOO"])
    assert third.color == first.color
    assert third.marker != first.marker


def test_a_style_of_a_plug_in(monkeypatch):
    monkeypatch.setattr(styles, "STYLES", dict(styles.STYLES))
    styles.add("Mine", "#123456", "P")
    assert styles.styles(["DisARM", "Mine"])[1] == ("#123456", "P")
    for color, marker in (("red", "o"), ("#12345", "o"), (None, "o"), ("#123456", "")):
        with pytest.raises(RebarError):
            styles.add("Other", color, marker)
    assert "Other" not in styles.STYLES
