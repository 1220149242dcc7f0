"""Sets of values: what they expand to, and what is refused, all together."""

import pytest

from rebar.errors import RebarError
from rebar.sweep import grid


@pytest.mark.parametrize(
    ("strings", "expanded"),
    [
        ([""], [("",)]),
        (["model=A"], [("model=A",)]),
        (["model={A,B},n=1"], [("model=A,n=1",), ("model=B,n=1",)]),
        (["m={A, B},n={1,2}"], [("m=A,n=1",), ("m=A,n=2",), ("m=B,n=1",), ("m=B,n=2",)]),
        (["m={A,B}", "n={1,2}"], [("m=A", "n=1"), ("m=A", "n=2"), ("m=B", "n=1"), ("m=B", "n=2")]),
        (["track={[A,B],[C]}"], [("track=[A,B]",), ("track=[C]",)]),
        (["m={A;n=2,B}"], [("m=A,n=2",), ("m=B",)]),
        (["m=SBN{ARM,DisARM}"], [("m=SBNARM",), ("m=SBNDisARM",)]),
        (["{m=A;t=[C,D],m=B}"], [("m=A,t=[C,D]",), ("m=B",)]),
        (["f={A(x=1,y=2),B(x=3;y=4)}"], [("f=A(x=1,y=2)",), ("f=B(x=3,y=4)",)]),
        (["t=[A(x={1,2},y=3),B]"], [("t=[A(x=1,y=3),B]",), ("t=[A(x=2,y=3),B]",)]),
        (["t={[A(x=1,y=2),B],[C]}"], [("t=[A(x=1,y=2),B]",), ("t=[C]",)]),
        (["m={A}"], [("m=A",)]),
    ],
)
def test_expand(strings, expanded):
    assert grid.expand(strings) == expanded


@pytest.mark.parametrize(
    ("string", "message"),
    [
        ("m={A,B", "an unmatched brace"),
        ("m=A,B}", "an unmatched brace"),
        ("m={A,{B,C}}", "a set within a set"),
        ("m={}", "an empty alternative"),
        ("m={A,}", "an empty alternative"),
        ("m={,A}", "an empty alternative"),
    ],
)
def test_malformed_sets(string, message):
    with pytest.raises(RebarError, match=message):
        grid.expand([string])


def test_too_many_points():
    digits = "{0,1,2,3,4,5,6,7,8,9}"
    with pytest.raises(RebarError, match="span 1000000 points; at most 100000"):
        grid.expand([f"m={digits * 6}"])


def test_points_are_checked_together():
    with pytest.raises(RebarError) as error:
        grid.points(["model={SBNARM,SBNFoo,SBNReinforceLOO},n_layer={1,0}"])
    message = str(error.value)
    assert message.count("SBNFoo' ") + message.count("model='SBNFoo'") == 2
    assert message.count("n_layer=0: must be at least 1") == 3
    assert "set n_samples=2" in message


def test_points_on_top_of_a_preset():
    points = grid.points(["batch_size={24,10}"], preset="disarm_linear")
    assert [(p.batch_size, p.initializer) for p in points] == [(24, "glorot"), (10, "glorot")]
    assert list(points.values()) == [("batch_size=24",), ("batch_size=10",)]


@pytest.mark.parametrize(
    "strings",
    [["n_layer={2,2}"], ["model={SBNARM,SBN}", "model=SBN"], ["learning_rate={0.1,1e-1}"]],
)
def test_equal_points(strings):
    assert len(grid.points(strings)) == 1


def test_seeds():
    assert grid.seeds(["0", " 2", "4294967295"]) == [0, 2, 2**32 - 1]
    for words in ([], ["-1"], ["x"], ["0", "1.5"], ["4294967296"], ["\u0661"]):
        with pytest.raises(RebarError, match="must be different integers"):
            grid.seeds(words)
    with pytest.raises(RebarError, match="--seeds=0,00: must be different"):
        grid.seeds(["0", "00"])


@pytest.mark.parametrize(
    "strings",
    [
        ["task=digits,model=SBNDisARM", "task=digits,model=SBNRelax"],
        ["n_layer=1", "n_layer=2"],
        ["task=digits,trial=1", "trial=2"],
        ["model=SBNTrackGradVariances,track=[NVIL,DisARM]", "track=[NVIL,LOO]"],
    ],
)
def test_braces_expanded_by_the_shell(strings):
    with pytest.raises(RebarError, match="put quotes around"):
        grid.points(strings)


def test_several_strings_that_agree():
    assert len(grid.points(["task=digits,n_layer={1,2}", "task=digits,model=SBNARM"])) == 2
    tracked = "model=SBNTrackGradVariances,track=[NVIL,DisARM],task=digits"
    assert len(grid.points([tracked, "n_layer={1,2}", "track=[NVIL,DisARM]"])) == 2
