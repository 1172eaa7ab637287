"""The registry finds one detector a file, in the order of the loop."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

import rlwatch.detectors as home
from rlwatch.detectors import registry
from rlwatch.detectors.base import Detector, Link

EIGHT = {
    "entropy_collapse",
    "kl_explosion",
    "reward_variance_explosion",
    "reward_bimodality",
    "reward_drift",
    "advantage_spike",
    "loss_nonfinite",
    "gradient_spike",
}


def test_the_core_eight_are_there() -> None:
    """Every detector of the first part is found, under its own id."""
    classes = registry.detector_classes()
    assert set(classes) >= EIGHT
    assert all(kind.id == name for name, kind in classes.items())


def test_one_detector_a_file() -> None:
    """Each module under a link's folder is one detector, and nothing is left over."""
    folder = Path(home.__file__).parent
    files = {path.stem for path in folder.glob("*/*.py") if path.stem != "__init__"}
    assert files == set(registry.detector_classes())


def test_causal_order() -> None:
    """They come in the order of the links, so that the first broken link speaks first."""
    order = list(Link)
    places = [order.index(kind.link) for kind in registry.detector_classes().values()]
    assert places == sorted(places)


def test_all_are_detectors_that_can_be_made() -> None:
    """Each one is made without arguments, and instances share nothing."""
    for kind in registry.detector_classes().values():
        one, other = kind(), kind()
        assert isinstance(one, Detector)
        for name in kind.state:
            value = getattr(one, name)
            if hasattr(value, "state_dict") or isinstance(value, (list, dict)):
                assert value is not getattr(other, name)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that stands where a detector's would."""
    made = ModuleType("rlwatch.detectors.reward.odd_one")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


def test_a_module_without_its_detector_is_an_error(module: ModuleType) -> None:
    """The error names the module and the id that it lacks."""
    with pytest.raises(TypeError, match="odd_one"):
        registry._detector_in(module.__name__, "reward", "odd_one")


def test_a_detector_in_the_wrong_folder_is_an_error(module: ModuleType) -> None:
    """The error names the link and the folder."""

    class OddOne(Detector):
        id, link, needs = "odd_one", Link.POLICY, ("kl",)

        def check(self, obs: object) -> None: ...

    module.OddOne = OddOne  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match=r"'policy'.*'reward'"):
        registry._detector_in(module.__name__, "reward", "odd_one")
