"""Names, labels, and what users register themselves."""

import pytest

from rebar import registry, testing
from rebar.errors import RebarError
from rebar.estimators.base import Estimator
from rebar.estimators.nvil import NVIL
from rebar.estimators.rebar import REBAR
from rebar.hparams import HParams
from tests.conformance.cases import hparams, images, samples_of, tensor, tiny_model


class Mine(Estimator):
    """Takes one setting by its name."""

    def __init__(self, temperature=1.0, **kwargs):
        super().__init__(**kwargs)
        self.temperature = temperature


pytestmark = pytest.mark.usefixtures("own_registry")


def test_the_names_of_2017():
    original = [
        "SBN", "SBNNVIL", "SBNSimpleMuProp", "SBNMuProp", "SBNRebar", "SBNDynamicRebar",
        "SBNGumbel", "SBNTrackGradVariances",
    ]  # fmt: skip
    assert [name for name in registry.names() if name in original] == original
    assert "Track" not in registry.labels("binary")
    for label, name in registry.labels("binary").items():
        assert registry.entry(name).label == label


def test_every_name_makes_an_estimator():
    for name in registry.names():
        if name in registry.names("binary"):
            settings = hparams(name, 2)
        else:
            settings = HParams(model=name, n_samples=2, track=("ST", "LOO"), follow="ST")
        estimator = registry.make_estimator(name, settings)
        assert isinstance(estimator, Estimator)
        assert (type(estimator).estimate, type(estimator).__doc__) != (Estimator.estimate, None)


def test_settings_come_from_the_hparams():
    hparams = HParams(temperature=0.25, quadratic=False, muprop_relaxation=False, legacy2017=True)
    rebar = registry.make_estimator("SBNRebar", hparams)
    assert (rebar.initial_temperature, rebar.quadratic) == (0.25, False)
    assert (rebar.muprop_relaxation, rebar.coupling) == (False, "all")
    assert registry.make_estimator("SBNRebar", HParams()).coupling == "switch"
    tracked = registry.make_estimator(
        "SBNTrackGradVariances", HParams(track=("REBAR", "NVIL"), follow="NVIL", temperature=0.3)
    )
    assert [type(e) for e in tracked.estimators] == [REBAR, NVIL]
    assert (tracked.labels, tracked.follow) == (["REBAR", "NVIL"], "NVIL")
    assert tracked.estimators[0].initial_temperature == 0.3


@pytest.mark.parametrize("continuation", ["shared", "independent"])
def test_continuation_comes_from_the_hparams(continuation):
    for name in ("SBNARM", "SBNDisARM"):
        estimator = registry.make_estimator(name, HParams(continuation=continuation))
        assert estimator.branches == (continuation == "independent")
    tracked = HParams(track=("NVIL", "DisARM"), follow="NVIL", continuation=continuation)
    tracker = registry.make_estimator("SBNTrackGradVariances", tracked)
    assert tracker.branches == (continuation == "independent")


def test_numbers_of_samples_that_estimators_take():
    registry.register("Pairs", Mine, samples=2)
    registry.register("Three", Mine, label="3", min_samples=3)
    assert registry.entry("Pairs").samples == 2
    assert registry.entry("Three").min_samples == 3
    assert (registry.entry("SBNReinforceLOO").min_samples, samples_of("SBNNVIL")) == (2, 1)
    assert [samples_of("Pairs", least=n) for n in (1, 2, 3)] == [2, 2, 4]
    assert [samples_of("3", least=n) for n in (1, 5)] == [3, 5]
    assert samples_of("Pairs", "Three") == 4


@pytest.mark.parametrize(
    "target", [Mine, "tests.test_registry:Mine", lambda hparams: Mine(hparams.temperature)]
)
def test_register(target):
    registry.register("Mine", target, min_rows=3)
    assert registry.names()[-1] == "Mine"
    assert registry.labels("binary")["Mine"] == "Mine"
    assert registry.entry("Mine").min_rows == 3
    hparams = HParams(model="Mine", temperature=0.125)
    assert registry.make_estimator("Mine", hparams).temperature == 0.125


def test_register_under_a_label():
    registry.register("MyModel", Mine, label="My")
    assert registry.labels("binary")["My"] == "MyModel"
    HParams(track=("My", "NVIL"), follow="My")


@pytest.mark.parametrize(
    ("name", "label"), [("SBN", None), ("SBN", "new"), ("new", "NVIL"), ("NVIL", None)]
)
def test_names_and_labels_in_use(name, label):
    with pytest.raises(RebarError, match="already registered"):
        registry.register(name, Mine, label)
    assert "new" not in registry.names()


def test_unknown_names():
    with pytest.raises(
        RebarError, match=r"unknown model 'SBNX'; choose from SBN, .*register.*did you mean"
    ):
        registry.entry("SBNX")
    with pytest.raises(RebarError, match="unknown model"):
        registry.make_estimator("SBNX", HParams())


def test_an_estimator_without_an_estimate_says_so():
    with pytest.raises(NotImplementedError, match=r"Mine must implement estimate\(\)"):
        Mine().estimate(tiny_model(1), tensor(images(2)), None)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("CatST", {"temperature": 1.3}),
        ("CatGumbelST", {"temperature": 0.5}),
        ("CatGumbelRao", {"temperature": 0.5, "mc_samples": 7}),
        ("CatGST", {"temperature": 0.7, "gst_gap": 2.0}),
        ("CatReinMax", {"temperature": 1.3}),
        ("CatReinMaxRao", {"temperature": 0.7, "mc_samples": 7}),
        (
            "CatReinMaxCV",
            {"temperature": 0.7, "mc_samples": 7, "cv_scale": 0.3, "cv_form": "stgs"},
        ),
        ("CatReinMaxRK2", {"rk2_beta": 0.7, "rk2_form": "released"}),
    ],
)
def test_categorical_settings_come_from_the_hparams(name, settings):
    estimator = registry.make_estimator(name, HParams(model=name, **settings))
    assert {key: getattr(estimator, key) for key in settings} == settings
    assert not estimator.unbiased


def test_labels_are_those_of_one_kind_of_latents():
    assert registry.labels("binary")["LOO"] == "SBNReinforceLOO"
    assert registry.labels("categorical")["LOO"] == "CatLOO"
    assert registry.all_labels().count("LOO") == 1
    with pytest.raises(RebarError, match="latents='real': choose from binary, categorical"):
        registry.register("Mine", Estimator, latents="real")


def test_families_of_layers_are_those_of_the_classes():
    for name in registry.names():
        assert tuple(registry.entry(name).families) == tuple(registry.target(name).families)
    registry.register("Mine", Estimator)
    registry.register("Both", Estimator, latents="categorical", families=registry.FAMILIES)
    assert registry.entry("Mine").families == ("bernoulli",)
    assert registry.entry("Both").families == registry.FAMILIES
    for families in (("gaussian", "bernoulli"), ("categorical",)):
        with pytest.raises(RebarError, match="must be bernoulli and possibly others"):
            registry.register("New", Estimator, families=families)


@pytest.mark.parametrize("name", ["a b", "a,b", "a=b", "", 3])
def test_names_that_cannot_be_typed(name):
    with pytest.raises(RebarError, match="letters, digits"):
        registry.register(name, "module:Class")
    with pytest.raises(RebarError, match="letters, digits"):
        registry.register("New", "module:Class", label=name or " ")
    assert "New" not in registry.names()


@pytest.mark.parametrize("target", [3, "Class", None])
def test_targets_that_are_none(target):
    with pytest.raises(RebarError, match=r"target=.*: must be an Estimator class"):
        registry.register("New", target)


@pytest.mark.parametrize(
    ("target", "limits"),
    [
        (dict, {}),
        (object(), {}),
        (Estimator(), {}),
        (Estimator, {"min_samples": "2"}),
        (Estimator, {"samples": 0}),
        (Estimator, {"min_rows": 1.5}),
        (Estimator, {"latents": "cat"}),
    ],
)
def test_invalid_registrations(target, limits):
    before = registry.names()
    with pytest.raises(RebarError):
        registry.register("Invalid", target, **limits)
    assert registry.names() == before
    if isinstance(target, type) and limits:
        with pytest.raises(RebarError):
            testing.check_estimator(target, **limits)
