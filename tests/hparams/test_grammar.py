"""The --hparams string: the original's grammar and errors, and what was added to them."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rebar import registry
from rebar.errors import RebarError
from rebar.hparams import HParams

LABELS = sorted(registry.labels("binary"))


def error_of(*strings):
    with pytest.raises(RebarError) as caught:
        HParams.parse(*strings)
    return str(caught.value)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(alphabet="n_layertsk=[]012,. \n\tmodSBN-'\"é", max_size=40))
def test_any_text_parses_or_is_refused_in_one_way(text):
    try:
        h = HParams.parse(text)
    except RebarError as error:
        assert text in str(error)  # noqa: PT017 - most texts are refused, some are not
    else:
        assert HParams.parse(h.format()) == h


@pytest.mark.parametrize(
    ("string", "changes"),
    [
        ("", {}),
        ("  \n", {}),
        ("n_layer=2,", {"n_layer": 2}),
        ("n_layer = 2 ,  task  =  omni  ", {"n_layer": 2, "task": "omni"}),
        ("\n n_layer=2,\n task=omni\n", {"n_layer": 2, "task": "omni"}),
        ("n_input=+4", {"n_input": 4}),
        ("trial=1_000", {"trial": 1000}),
        ("learning_rate=3", {"learning_rate": 3.0}),
        ("learning_rate=1e-4", {"learning_rate": 1e-4}),
        ("nonlinear=true", {"nonlinear": True}),
        ("nonlinear=True", {"nonlinear": True}),
        ("quadratic=false", {"quadratic": False}),
        ("quadratic=False", {"quadratic": False}),
        ("quadratic=0", {"quadratic": False}),
        ("nonlinear=-7", {"nonlinear": True}),
        ("track=[SimpleMuProp,REBAR]", {"track": ("SimpleMuProp", "REBAR")}),
        (
            "track=[ SimpleMuProp REBAR ] , trial=2",
            {"track": ("SimpleMuProp", "REBAR"), "trial": 2},
        ),
        ("track=[REBAR],follow=REBAR", {"track": ("REBAR",), "follow": "REBAR"}),
        (
            "track[0]=Gumbel,track[4]=REINFORCE",
            {"track": ("Gumbel", "SimpleMuProp", "MuProp", "DynamicREBAR", "REINFORCE")},
        ),
    ],
)
def test_grammar(string, changes):
    assert HParams.parse(string) == HParams(**changes)


def test_later_strings_override_earlier_ones():
    h = HParams.parse("n_layer=2,task=sp", "", "n_layer=3", "track[0]=Gumbel")
    assert h == HParams(
        n_layer=3,
        task="sp",
        track=["Gumbel", "SimpleMuProp", "MuProp", "DynamicREBAR", "REBAR"],
    )


@pytest.mark.parametrize(
    ("string", "parts"),
    [
        ("n_layer", ["malformed", "'n_layer'"]),
        (",n_layer=2", ["malformed"]),
        ("n_layer=2,,task=sp", ["malformed"]),
        ("2n=1", ["malformed", "'2n=1'"]),
        ("task=s[p", ["malformed", "'task=s[p'"]),
        ("track=[NVIL,REBAR", ["malformed", "'track=[NVIL,REBAR'"]),
        ("track=[NVIL]x", ["malformed"]),
        ("n_layer=2.0", ["n_layer", "int", "'2.0'"]),
        ("n_layer=1e3", ["n_layer", "int", "'1e3'"]),
        ("n_layer=", ["n_layer", "int", "''"]),
        ("learning_rate=fast", ["learning_rate", "float", "'fast'"]),
        ("nonlinear=TRUE", ["nonlinear", "bool", "'TRUE'", "true or false"]),
        ("nonlinear=yes", ["nonlinear", "bool", "'yes'"]),
        ("nonlinear=", ["nonlinear", "bool", "''"]),
        ("nonlinear=1.0", ["nonlinear", "bool", "'1.0'"]),
        ("task='sp'", ["task=\"'sp'\"", "sbn, sp, omni"]),
        ("task=", ["task=''", "sbn, sp, omni"]),
        ("n_layr=2", ["unknown", "'n_layr'", "did you mean n_layer?"]),
        ("NLAYER=2", ["unknown", "n_layer"]),
        ("zzz=2", ["unknown", "'zzz'", *HParams().to_dict()]),
        ("n_layer=1,n_layer=2", ["n_layer", "twice"]),
        ("track=[REBAR],track[0]=NVIL", ["track", "twice"]),
        ("track[0]=NVIL,track=[REBAR]", ["track", "twice"]),
        ("track[0]=NVIL,track[0]=REBAR", ["track", "twice"]),
        ("n_layer=[2]", ["n_layer", "not a list", "n_layer=value"]),
        ("n_layer[0]=2", ["n_layer", "not a list"]),
        ("track=NVIL", ["track", "a list", "track=[NVIL]"]),
        ("track[0]=[NVIL]", ["track", "must not be a list"]),
        ("track[5]=NVIL", ["track", "[5]", "use 0 to 4"]),
        ("n_layer=0", ["n_layer=0", "at least 1"]),
        ("n_hidden=-1", ["n_hidden=-1", "at least 1"]),
        ("n_samples=0", ["n_samples=0"]),
        ("batch_size=0", ["batch_size=0"]),
        ("n_input=-1", ["n_input=-1"]),
        ("temperature=0", ["temperature=0.0", "above 0"]),
        ("temperature=inf", ["temperature=inf", "finite"]),
        ("learning_rate=nan", ["learning_rate=nan"]),
        ("learning_rate=-1", ["learning_rate=-1.0"]),
        ("beta2=1", ["beta2=1.0", "below 1"]),
        ("beta2=-0.1", ["beta2=-0.1"]),
        ("model=Rebar", ["model='Rebar'", *registry.names()]),
        ("conditional=2018", ["conditional='2018'", "auto, multilayer, 2017"]),
        ("coupling=none", ["coupling='none'", "auto, switch, all"]),
        ("track=[SBNNVIL],follow=NVIL", ["track='SBNNVIL'", *LABELS]),
        ("track=[NVIL,SimpleMuProp,NVIL]", ["track", "NVIL more than once"]),
        ("track=[NVIL]", ["follow=SimpleMuProp", "not in track=[NVIL]", "only SBNTrackG"]),
        ("track=[]", ["follow=SimpleMuProp", "not in track=[]"]),
        ("follow=all", ["follow='all'", *LABELS]),
        ("task=sp,n_input=783", ["n_input=783", "task=sp", "even"]),
        ("model=SBN,batch_size=1", ["SBN", "at least 2", "batch_size=1", "leave-one-out"]),
        (
            "model=SBNTrackGradVariances,track=[REINFORCE],follow=REINFORCE,batch_size=1",
            ["SBN", "at least 2"],
        ),
        ("continuation=both", ["continuation='both'", "shared, independent"]),
        ("model=SBNReinforceLOO", ["n_samples=1", "SBNReinforceLOO", "set n_samples=2"]),
        ("model=SBNVIMCO", ["n_samples=1", "SBNVIMCO", "set n_samples=2"]),
        (
            "model=SBNLocalDisARM,n_samples=3",
            ["n_samples=3", "multiple of 2 for SBNLocalDisARM", "set n_samples=4"],
        ),
        (
            "model=SBNTrackGradVariances,track=[NVIL,LOO],follow=LOO,n_samples=1",
            ["n_samples=1", "at least 2 for LOO", "set n_samples=2,"],
        ),
    ],
)
def test_errors_say_what_is_wrong(string, parts):
    message = error_of(string)
    assert f'--hparams="{string}"' in message
    assert "problems" not in message, "one mistake, one problem"
    rest = message.replace(f'--hparams="{string}"', "")
    for part in parts:
        assert part in rest


@pytest.mark.parametrize(
    "string",
    [
        "model=SBN,batch_size=1,n_samples=2",
        "task=sbn,n_input=783",
        "model=SBNNVIL,batch_size=1",
        "track=[REINFORCE],follow=REINFORCE,batch_size=1",
        "track=[LOO],follow=LOO",
        "model=SBNReinforceLOO,n_samples=2,batch_size=1",
        "model=SBNLocalDisARM,n_samples=4",
        "model=SBNTrackGradVariances,track=[LOO,LocalDisARM],follow=LOO,n_samples=2",
        "model=SBNDisARM,continuation=independent",
    ],
)
def test_near_misses_are_allowed(string):
    assert HParams.parse(string).format() == HParams.parse(string).format() != ""


def test_all_problems_are_reported_at_once():
    first = "n_layr=2,n_layer=two,nonsense,temperature=0"
    second = "task=nist,beta2=[1],trial=2,trial=3"
    message = error_of(first, second)
    assert f'--hparams="{first}" --hparams="{second}", 7 problems:' in message
    bullets = [line.split()[1].strip("':") for line in message.splitlines()[1:]]
    assert [re.split("[=:]", bullet)[0] for bullet in bullets] == [
        "unknown",
        "n_layer",
        "malformed",
        "beta2",
        "trial",
        "temperature",
        "task",
    ]


def test_combinations_are_checked_once_the_values_are_valid():
    message = error_of("model=SBN,batch_size=1,n_samples=two")
    assert "'two'" in message
    assert "leave-one-out" not in message
