"""Catalog of planted faults. Each must be caught by a property, not by recorded numbers.

A fault is a small patch and what must fail with it: a check of `rebar.testing` for a name or class,
or a property test elsewhere. That these pass without the fault is tested where they belong; for
classes that only exist here, the class without the fault is checked by `test_faults.py`.
"""

from tests.conformance.faults.baselines import BASELINES
from tests.conformance.faults.categories import CATEGORIES
from tests.conformance.faults.coupled import COUPLED
from tests.conformance.faults.declarations import DECLARATIONS
from tests.conformance.faults.flips import FLIPS
from tests.conformance.faults.functional import FUNCTIONAL
from tests.conformance.faults.measures import MEASURES
from tests.conformance.faults.pairs import PAIRS
from tests.conformance.faults.pixels import PIXELS
from tests.conformance.faults.planting import Fault
from tests.conformance.faults.relaxations import RELAXATIONS
from tests.conformance.faults.runs import RUNS
from tests.conformance.faults.settings import SETTINGS
from tests.conformance.faults.training import TRAINING

__all__ = ["FAULTS", "Fault"]

FAULTS = [
    *BASELINES,
    *RELAXATIONS,
    *PAIRS,
    *CATEGORIES,
    *COUPLED,
    *FLIPS,
    *DECLARATIONS,
    *FUNCTIONAL,
    *TRAINING,
    *MEASURES,
    *SETTINGS,
    *RUNS,
    *PIXELS,
]
