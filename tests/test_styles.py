"""Colours: fixed by label, apart for all eyes."""

import itertools

import numpy as np

from rebar import registry, styles

# Machado, Oliveira and Fernandes 2009, severity 1, for linear sRGB.
EYES = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
XYZ = [
    [0.4124564, 0.3575761, 0.1804375],
    [0.2126729, 0.7151522, 0.0721750],
    [0.0193339, 0.1191920, 0.9503041],
]


def lab(colour, eyes):
    """CIELAB of #rrggbb as some eyes see it."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = np.array(XYZ) @ np.clip(np.array(eyes) @ linear, 0, 1) / [0.95047, 1, 1.08883]
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_colours_are_apart_for_all_eyes():
    binary = [styles.STYLES[label] for label in registry.labels("binary")]
    for a, b in itertools.combinations(binary, 2):
        for name, eyes in EYES.items():
            distance = np.linalg.norm(lab(a.colour, eyes) - lab(b.colour, eyes))
            assert distance > 15, (a, b, name, distance)
        assert a.marker != b.marker


def test_every_estimator_has_a_style_of_its_own_within_its_family():
    for latents in ("binary", "categorical"):
        labels = list(registry.labels(latents))
        assert set(labels) <= set(styles.STYLES)
        found = [styles.STYLES[label] for label in labels]
        assert len({s.colour for s in found}) == len({s.marker for s in found}) == len(labels)


def test_a_label_of_a_user_always_has_the_same_style():
    # In every process: Python's own hash of a string is salted.
    assert styles.style("Mine") == styles.Style("#CC79A7", "X")
    assert len({styles.style(f"Mine{i}") for i in range(40)}) > 30


def test_lines_of_one_colour_get_other_markers():
    first, second, third = styles.styles(["DisARM", "LOO", "DisARM"])
    assert first == styles.style("DisARM")
    assert second == styles.style("LOO")
    assert third.colour == first.colour
    assert third.marker != first.marker
