"""HParams: round trips, Python values, effective settings, names of runs."""

import dataclasses
import json
import re
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rebar import registry
from rebar.data.sources import TASKS
from rebar.errors import RebarError
from rebar.hparams import HParams, run_name
from rebar.hparams.fields import Fields
from rebar.hparams.grammar import write

LABELS = sorted(registry.labels("binary"))

# Time limits of single examples would make a busy machine fail the tests.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def hparams(draw):
    """Any valid HParams of the estimators that come with the package."""
    at_least_one = st.integers(1, 120)
    positive = st.floats(0, exclude_min=True, allow_infinity=False)
    track = draw(st.lists(st.sampled_from(LABELS), min_size=1, unique=True))
    model = draw(st.sampled_from(registry.names("binary")))
    tracks = registry.entry(model).tracks
    in_use = [registry.labels("binary")[label] for label in track] if tracks else [model]
    return HParams(
        model=model,
        n_hidden=draw(at_least_one),
        n_input=2 * draw(st.integers(0, 10**6)),
        n_layer=draw(st.integers(1, 12)),
        nonlinear=draw(st.booleans()),
        learning_rate=draw(positive),
        temperature=draw(positive),
        n_samples=2 * draw(st.integers(1, 60)),  # Any estimator takes an even number.
        batch_size=draw(st.integers(2, 120)),
        trial=draw(st.integers(0, 2**32 - 1)),
        muprop_relaxation=draw(st.booleans()),
        dynamic_b=draw(st.booleans()),
        quadratic=draw(st.booleans()),
        beta2=draw(st.floats(0, 1, exclude_max=True)),
        optimizer=draw(st.sampled_from(["adam", "radam"])),
        task=draw(st.sampled_from(sorted(n for n, task in TASKS.items() if not task.gray))),
        prior=draw(st.sampled_from(["auto", "learned"])),
        conditional=draw(st.sampled_from(["auto", "multilayer", "2017"])),
        activation=draw(st.sampled_from(["tanh", "leaky_relu"])),
        initializer=draw(st.sampled_from(["2017", "glorot"])),
        learning_rate_generator=draw(st.floats(0, allow_infinity=False)),
        learning_rate_prior=draw(st.floats(0, allow_infinity=False)),
        prior_optimizer=draw(st.sampled_from(["adam", "sgd"])),
        learning_rate_control=draw(st.floats(0, allow_infinity=False)),
        coupling=draw(st.sampled_from(["auto", "switch", "all"])),
        continuation=draw(st.sampled_from(["shared", "independent"])),
        symmetrized=draw(st.booleans()),
        vimco_mean=draw(st.sampled_from(["geometric", "arithmetic"])),
        multi_sample=draw(st.booleans()) and all(registry.entry(n).multi_sample for n in in_use),
        legacy2017=draw(st.booleans()),
        track=track,
        follow=draw(st.sampled_from(track)),
    )


def test_defaults_are_those_of_the_original():
    original = {
        "model": "SBNGumbel",
        "n_hidden": 200,
        "n_layer": 1,
        "nonlinear": False,
        "learning_rate": 0.001,
        "temperature": 0.5,
        "n_samples": 1,
        "batch_size": 24,
        "trial": 1,
        "muprop_relaxation": True,
        "dynamic_b": False,
        "quadratic": True,
        "beta2": 0.99999,
        "task": "sbn",
    }
    values = HParams().to_dict()
    assert {name: values[name] for name in original} == original
    assert values["n_input"] == 0
    assert (values["activation"], values["initializer"]) == ("tanh", "2017")
    rates = ("learning_rate_generator", "learning_rate_prior", "learning_rate_control")
    assert [values[name] for name in rates] == [0, 0, 0]
    assert values["prior_optimizer"] == "adam"
    assert values["track"] == ["NVIL", "SimpleMuProp", "MuProp", "DynamicREBAR", "REBAR"]
    assert values["follow"] == "SimpleMuProp"


@st.composite
def categorical_hparams(draw):
    """Any valid HParams of a model with categorical latents."""
    model = draw(st.sampled_from(registry.names("categorical")))
    number = st.floats(allow_nan=False, allow_infinity=False)
    labels = sorted(registry.labels("categorical"))
    track = ["ReinMax", "ST"]
    if registry.entry(model).tracks:
        track = draw(st.lists(st.sampled_from(labels), min_size=1, unique=True))
    return HParams(
        model=model,
        n_samples=2 * draw(st.integers(1, 60)),
        batch_size=draw(st.integers(2, 120)),
        temperature=draw(st.floats(0, exclude_min=True, allow_infinity=False)),
        optimizer=draw(st.sampled_from(["adam", "radam"])),
        task=(task := draw(st.sampled_from([n for n, t in TASKS.items() if not t.conditional]))),
        likelihood=draw(st.sampled_from(["bernoulli", "gaussian"][: 1 + TASKS[task].gray])),
        n_categories=draw(st.integers(2, 16)),
        n_latents=draw(st.integers(1, 16)),
        prior=draw(st.sampled_from(["auto", "uniform", "learned"])),
        mc_samples=draw(st.integers(1, 72)),  # at most 2**28 numbers of noise
        gst_gap=draw(st.floats(0, exclude_min=True, allow_infinity=False)),
        cv_scale=draw(number),
        cv_form=draw(st.sampled_from(["released", "stgs"])),
        rk2_beta=draw(number),
        rk2_form=draw(st.sampled_from(["consistent", "released"])),
        track=track,
        follow=draw(st.sampled_from(track)),
    )


@unhurried
@given(st.one_of(hparams(), categorical_hparams()))
def test_what_is_formatted_parses_to_the_same(h):
    assert HParams.parse(h.format()) == h
    assert HParams.parse(h.format(all=True)) == h
    # Whatever came before, a complete string overrides all of it.
    assert HParams.parse("n_layer=7,nonlinear=true,beta2=0.5", h.format(all=True)) == h
    assert HParams.from_dict(json.loads(json.dumps(h.to_dict()))) == h


def test_format_leaves_out_defaults():
    assert HParams().format() == ""
    assert HParams(n_layer=2, learning_rate=3e-4).format() == "n_layer=2,learning_rate=0.0003"
    assert HParams().format(all=True).count("=") == len(HParams().values())


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"n_layer": "2"}, "n_layer='2': must be of type int"),
        ({"n_layer": 2.0}, "n_layer=2.0: must be of type int"),
        ({"n_layer": True}, "n_layer=True: must be of type int"),
        ({"nonlinear": 1}, "nonlinear=1: must be of type bool"),
        ({"task": None}, "task=None: must be of type str"),
        ({"track": "NVIL"}, "track='NVIL': must be of type list"),
        ({"learning_rate": 10**400}, "learning_rate=1000"),
        ({"n_layer": 0, "beta2": 2.0}, "2 problems"),
    ],
)
def test_python_values_are_checked_too(changes, part):
    for build in (lambda: HParams(**changes), lambda: HParams().replace(**changes)):
        with pytest.raises(RebarError, match=re.escape(part)):
            build()


def test_numbers_take_the_type_of_the_default():
    h = HParams(learning_rate=1, track=["REBAR", "SimpleMuProp"])
    assert type(h.learning_rate) is float
    assert h.track == ("REBAR", "SimpleMuProp")
    assert hash(h) == hash(HParams.parse("learning_rate=1.0,track=[REBAR,SimpleMuProp]"))


def test_replace_changes_a_copy():
    h = HParams()
    assert h.replace(n_layer=2).n_layer == 2
    assert h.n_layer == 1
    with pytest.raises(RebarError, match="unknown hyperparameter 'layers'"):
        h.replace(layers=2)


def test_from_dict_refuses_unknown_names_and_completes_missing_ones():
    values = HParams(n_layer=2).to_dict()
    del values["quadratic"]
    assert HParams.from_dict(values) == HParams(n_layer=2)
    with pytest.raises(RebarError, match="'n_layrs'; did you mean n_layer or n_latents"):
        HParams.from_dict(values | {"n_layrs": 2})


@pytest.mark.parametrize(
    ("string", "conditional", "coupling"),
    [
        ("n_layer=1", "2017", "switch"),
        ("n_layer=2", "multilayer", "switch"),
        ("n_layer=2,legacy2017=true", "2017", "all"),
        ("n_layer=1,conditional=multilayer", "multilayer", "switch"),
        ("n_layer=2,conditional=2017,coupling=all", "2017", "all"),
        ("n_layer=2,legacy2017=true,conditional=multilayer", "multilayer", "all"),
        ("n_layer=2,legacy2017=true,coupling=switch", "2017", "switch"),
    ],
)
def test_effective_settings(string, conditional, coupling):
    h = HParams.parse(string)
    assert (h.effective_conditional, h.effective_coupling) == (conditional, coupling)


def test_every_field_is_described_and_its_default_is_valid():
    fields = dataclasses.fields(Fields)
    assert all(field.metadata["help"].endswith(".") for field in fields)
    defaults = (f"{field.name}={write(field.default)}" for field in fields)
    assert HParams.parse(",".join(defaults)) == HParams()


def test_run_name_is_readable_and_stays_the_same():
    # A changed name would hide the runs that are on disk already.
    h = HParams.parse("model=SBNDynamicRebar,learning_rate=0.0003,n_layer=2")
    assert run_name(h, 0) == "SBNDynamicRebar-sbn-2x200-lr0.0003-s0-99101ab23b"
    assert run_name(HParams(), 0) == "SBNGumbel-sbn-1x200-lr0.001-s0-6e1c844441"
    assert run_name(HParams(), 3) == "SBNGumbel-sbn-1x200-lr0.001-s3-9021efac59"


@unhurried
@given(hparams(), hparams(), st.integers(0, 2**63), st.integers(0, 2**63))
def test_run_names_differ_exactly_where_the_runs_do(a, b, seed_a, seed_b):
    assert (run_name(a, seed_a) == run_name(b, seed_b)) == ((a, seed_a) == (b, seed_b))
    assert run_name(HParams.parse(a.format()), seed_a) == run_name(a, seed_a)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{,200}", run_name(a, seed_a))


def test_run_name_of_a_registered_model_is_safe_for_a_file_system(monkeypatch):
    names = ["../../My:own*é", "../../My_own*é", "x" * 300]
    for name in names:
        monkeypatch.setitem(registry._ENTRIES, name, registry.Entry("a:b", name))
    folders = [run_name(HParams(model=name), 0) for name in names]
    assert len(set(folders)) == 3
    for folder in folders:
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+-]{,200}", folder)


def test_a_string_is_checked_without_tensorflow():
    code = "import sys, rebar.hparams; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_noise_beyond_memory_is_refused():
    with pytest.raises(RebarError, match=r"n_layer = 4.8e\+12: must be at most 268435456"):
        HParams(n_samples=10**9)


def test_noise_of_branches_counts():
    sizes = {"n_layer": 60, "n_hidden": 1000, "batch_size": 1000}
    HParams(**sizes)
    with pytest.raises(RebarError, match=r"n_layer \* \(n_layer \+ 1\) / 2 with continuation="):
        HParams(**sizes, continuation="independent")


def test_a_trial_that_is_no_seed_is_refused():
    with pytest.raises(RebarError, match=r"trial=-1: must be from 0"):
        HParams(trial=-1)


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        ("track=[NVIL,LOO,VIMCO],follow=LOO,n_samples=1",
         "n_samples=1: must be at least 2 for LOO, at least 2 for VIMCO; set n_samples=2,"),
        ("track=[Threes,LOO,ARM],follow=ARM,n_samples=1",
         "n_samples=1: must be a multiple of 3 for Threes, at least 2 for LOO; set n_samples=3,"),
        ("track=[Threes,LocalDisARM],follow=Threes,n_samples=9",
         "n_samples=9: must be a multiple of 2 for LocalDisARM; set n_samples=12,"),
    ],
)  # fmt: skip
def test_samples_that_do_not_suit_all_that_is_tracked(monkeypatch, hparams, message):
    """One message suggests a number that suits all."""
    entry = registry.Entry("a:b", "Threes", samples=3)
    monkeypatch.setitem(registry._ENTRIES, "Threes", entry)
    with pytest.raises(RebarError) as caught:
        HParams.parse(f"model=SBNTrackGradVariances,{hparams}")
    assert message in str(caught.value)
    assert "problems:" not in str(caught.value)
    enough = re.search(r"set (n_samples=\d+)", str(caught.value))[1]
    assert HParams.parse(f"model=SBNTrackGradVariances,{hparams}", enough).n_samples > 1


def test_run_name_of_a_categorical_model():
    h = HParams(model="CatST", task="mnist", n_categories=64, n_latents=8)
    assert run_name(h, 0).startswith("CatST-mnist-64x8-lr0.001-s0-")


@pytest.mark.parametrize(
    ("track", "follow", "n_samples"),
    [
        ("NVIL,DisARM,LOO", "NVIL", 2),
        ("LocalDisARM,LOO,ARM", "LocalDisARM", 2),
        ("NVIL,ARM", "NVIL", 1),
        ("NVIL,SimpleMuProp", "SimpleMuProp", 1),
    ],
)
def test_track_alone_is_enough(track, follow, n_samples):
    hparams = HParams.parse(f"model=SBNTrackGradVariances,track=[{track}]")
    assert (hparams.follow, hparams.n_samples) == (follow, n_samples)
    inferred = ["follow"] * (follow != "SimpleMuProp") + ["n_samples"] * (n_samples > 1)
    assert [note.partition("=")[0] for note in hparams.notes] == inferred
    typed = HParams.parse(hparams.format())
    assert typed == hparams
    assert typed.notes == ()
    assert run_name(typed, 0) == run_name(hparams, 0)


@pytest.mark.parametrize("typed", ["follow=LOO", "n_samples=3", "follow=NVIL,n_samples=4"])
def test_what_was_typed_is_kept(typed):
    hparams = HParams.parse("model=SBNTrackGradVariances,track=[NVIL,LOO]", typed)
    assert typed in hparams.format() or all(part in hparams.format() for part in typed.split(","))


@pytest.mark.parametrize("value", [3, None, ["model=SBN"], b"model=SBN"])
def test_parse_refuses_other_types(value):
    with pytest.raises(RebarError, match="must be a string or a mapping"):
        HParams.parse(value)


def test_parse_takes_a_mapping():
    assert HParams.parse({"model": "SBNDisARM", "n_layer": 2}) == HParams.parse(
        "model=SBNDisARM,n_layer=2"
    )
    with pytest.raises(RebarError, match="n_layer='two': must be of type int"):
        HParams.parse({"n_layer": "two"})
    with pytest.raises(RebarError, match="unknown hyperparameter 'n_layr'; did you mean n_layer"):
        HParams.parse({"n_layr": 2})


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("model=SBNREBAR", "SBNRebar"),
        ("model=sbndisarm", "SBNDisARM"),
        ("task=MNIST", "mnist"),
        ("optimizer=Adam", "adam"),
        ("model=SBNTrackGradVariances,track=[nvil],follow=NVIL", "NVIL"),
    ],
)
def test_the_closest_value_is_suggested(typed, near):
    with pytest.raises(RebarError, match=f"did you mean.*{near}"):
        HParams.parse(typed)
