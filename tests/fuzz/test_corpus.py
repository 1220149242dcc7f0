"""What fuzzing has found stays found: every kept input, and thousands near to these, hold."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .run import CORPUS, words
from .targets import TARGETS

KEPT = {name: sorted((CORPUS / name).iterdir()) for name in TARGETS}
unhurried = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_kept(name):
    assert KEPT[name]
    for path in KEPT[name]:
        TARGETS[name](path.read_bytes())


@st.composite
def edited(draw, name):
    """A kept input of which pieces are cut out, doubled, or replaced by words of these formats."""
    data = draw(st.sampled_from([path.read_bytes() for path in KEPT[name]]))
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(data)))
        end = min(len(data), begin + draw(st.integers(0, 8)))
        piece = draw(
            st.one_of(
                st.just(b""), st.just(data[begin:end] * 2), st.sampled_from(words()), st.binary()
            )
        )
        data = data[:begin] + piece + data[end:]
    return data


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_near(name):
    @settings(unhurried, max_examples=150)
    @given(edited(name))
    def check(data):
        TARGETS[name](data)

    check()


@pytest.mark.parametrize("name", TARGETS)
def test_anything(name):
    @settings(unhurried, max_examples=60)
    @given(st.one_of(st.binary(), st.text().map(lambda text: text.encode(errors="replace"))))
    def check(data):
        TARGETS[name](data)

    check()
