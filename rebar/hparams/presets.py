"""Presets: --hparams strings of published protocols, for --preset of the train command.

Values of a preset can be overridden:

    python rebar_train.py --preset=disarm_nonlinear --hparams="model=SBNRelax,task=omni"
    HParams.parse(rebar.preset("disarm_nonlinear"), "model=SBNRelax,task=omni")

disarm_*: Dong, Mnih & Tucker 2020 (arXiv 2006.10680), for sbn, fashion and omni. Initial weights,
beta2 and the learning rate of RELAX's control variate, which the text omits, are those of their
code. Limits of the reproduction: docs/reproduce.md.

doublecv_gaussian: non-binarized images as in Titsias & Shi 2022 (arXiv 2111.05300) and Shi et al.
2022 (arXiv 2202.09497), for mnist, fashion_grey and omni_grey; see docs/grayscale.md.

cat_*: the categorical VAEs of Wang & Bui 2026 (arXiv 2603.08257), tables of their appendix; 8x4 is
8 categories and 4 variables. A name ends in the estimator, which determines learning rate,
temperature and optimizer. Tasks: mnist (default), fashion_grey.
"""

from rebar.errors import RebarError, did_you_mean

_DISARM = (
    "model=SBNDisARM,batch_size=50,dynamic_b=true,n_hidden=200,initializer=glorot,learning_rate=0.0001,beta2=0.999,"
    "learning_rate_prior=0.01,prior_optimizer=sgd,learning_rate_control=0.0001,temperature=0.1"
)

PRESETS = {
    "disarm_linear": f"{_DISARM},n_layer=1,nonlinear=false",
    "disarm_nonlinear": f"{_DISARM},n_layer=1,nonlinear=true,activation=leaky_relu",
    "disarm_linear2": f"{_DISARM},n_layer=2,nonlinear=false",
    "disarm_linear3": f"{_DISARM},n_layer=3,nonlinear=false",
    "disarm_linear4": f"{_DISARM},n_layer=4,nonlinear=false",
    "doublecv_gaussian": (
        "model=SBNDoubleCV,n_samples=2,task=mnist,likelihood=gaussian,prior=uniform,batch_size=100,"
        "n_hidden=200,n_layer=1,nonlinear=true,activation=leaky_relu,initializer=glorot,"
        "learning_rate=0.0001,beta2=0.999,learning_rate_control=0.001"
    ),
}
"""Name -> --hparams string."""


_SIZES = ("8x4", "4x24", "8x16", "16x12", "64x8", "10x30")
_CATEGORICAL = {
    # learning rate, temperature and optimizer (Adam, RAdam) for each of _SIZES
    "CatGumbelST": "3e-4 .5 A, 5e-4 .3 R, 5e-4 .5 R, 7e-4 .7 R, 7e-4 .7 R, 5e-4 .5 R",
    "CatGumbelRao": "5e-4 .5 A, 5e-4 .3 R, 7e-4 .7 R, 5e-4 1 A, 7e-4 2 A, 5e-4 1 R",
    "CatGST": "5e-4 1 A, 5e-4 .5 R, 7e-4 .5 R, 7e-4 .5 R, 7e-4 .7 R, 5e-4 .5 R",
    "CatST": "1e-3 1.3 A, 1e-3 1.5 R, 1e-3 1.5 R, 5e-4 1.5 A, 5e-4 1.5 A, 7e-4 1.4 R",
    "CatReinMax": "5e-4 1.3 A, 5e-4 1.5 R, 7e-4 1.5 R, 7e-4 1.5 R, 5e-4 1.5 R, 5e-4 1.3 R",
    "CatReinMaxRao": "5e-4 1 A, 5e-4 .7 R, 7e-4 1 R, 7e-4 1 R, 7e-4 1 R, 5e-4 .7 R",
    "CatReinMaxCV": "5e-4 1 A, 5e-4 1 R, 5e-4 1 R, 5e-4 1 R, 5e-4 1 R, 5e-4 1 R",
}


def _categorical():
    for model, row in _CATEGORICAL.items():
        for size, cell in zip(_SIZES, row.split(","), strict=True):
            rate, temperature, optimizer = cell.split()
            categories, latents = size.split("x")
            yield (
                f"cat_{size}_{model.removeprefix('Cat').lower()}",
                f"model={model},n_categories={categories},n_latents={latents},task=mnist,"
                f"batch_size=100,beta2=0.999,learning_rate={float(rate)},"
                f"temperature={float(temperature)},"
                f"optimizer={'adam' if optimizer == 'A' else 'radam'}",
            )


PRESETS |= dict(_categorical())


def preset(name: str) -> str:
    """Return the --hparams string of a preset. Raises RebarError for an unknown one."""
    if name not in PRESETS:
        near = did_you_mean(name, PRESETS) or "; choose one of those that --help lists"
        raise RebarError(f"unknown preset {name!r}{near}")
    return PRESETS[name]
