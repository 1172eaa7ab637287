"""Intake: any framework's names, any kind of number; what cannot be used is named once and never raises."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlwatch import Watch
from rlwatch.guest import Guest
from rlwatch.intake import MAX_LAYOUTS, Intake
from rlwatch.observation import Observation
from rlwatch.signals import SIGNALS

LINES = json.loads((Path(__file__).parent / "data" / "log_lines.json").read_text(encoding="utf-8"))


def observe(metrics: Any = None, strict: bool = True, step: Any = None, **signals: Any) -> Observation:
    """What one row becomes."""
    observation, pending = Intake(Guest(strict)).observe(metrics, signals, step)
    assert not pending
    return observation


def quiet_watch(**settings: Any) -> Watch:
    """A Watch that leaves nothing behind."""
    return Watch(record=False, console=False, **settings)


@pytest.mark.parametrize("name", LINES)
def test_every_framework_line(name: str) -> None:
    """A line of each framework's log gives its canonical signals, and a strict Watch takes it."""
    line = LINES[name]["line"]
    # A number under the name of an array is the mean that is its twin.
    twins = {key: signal.twin for key, signal in SIGNALS.items() if signal.kind != "scalar"}
    signals = {twins.get(key, key): x for key, x in LINES[name]["signals"].items()}
    found = observe(line).signals
    assert {key: found.get(key) for key in signals} == pytest.approx(signals)
    watch = quiet_watch(strict=True)
    for step in range(3):
        assert watch.log(line, step=step).alerts == ()


NUMBERS = [
    2,
    2.0,
    np.float64(2),
    np.float32(2),
    np.float16(2),
    np.int64(2),
    np.uint8(2),
    np.array(2.0),
    np.array([2.0]),
    np.array([[2]]),
    [2.0],
    (2,),
    [[2.0]],
    "2",
    " 2.0 ",
    Decimal(2),
    torch.tensor(2.0),
    torch.tensor([2]),
    torch.tensor([[2.0]]),
    torch.tensor(2.0, dtype=torch.bfloat16),
    torch.tensor(2.0, dtype=torch.float16),
    torch.tensor(2.0, requires_grad=True),
    torch.tensor(2.0, requires_grad=True) * 1.0,
    torch.nn.Parameter(torch.tensor(2.0)),
    torch.ones(2).sum(),
    torch.tensor([1.0, 2.0])[1],
]


@pytest.mark.parametrize("value", NUMBERS, ids=lambda value: f"{type(value).__name__}-{str(value)[:30]}")
def test_any_kind_of_number(value: Any) -> None:
    """Python, NumPy and torch scalars of every kind are the number they hold."""
    assert observe(kl=value).signals == {"kl": 2.0}
    assert observe({"objective/kl": 0.5, "custom": 1.0}, kl=value).signals["kl"] == 2.0


@pytest.mark.parametrize("value", [True, np.True_, torch.tensor(True)])
def test_a_bool_is_a_number(value: Any) -> None:
    """True is 1: a flag under a signal's name does no harm."""
    assert observe(kl=value).signals == {"kl": 1.0}


@pytest.mark.parametrize(
    "value",
    [
        "NaN",
        "nan",
        math.nan,
        np.float32("nan"),
        torch.tensor(math.nan),
        np.array([math.nan]),
        "inf",
        "-Infinity",
        math.inf,
        -math.inf,
        10**400,
        -(10**400),
        torch.tensor(-math.inf, dtype=torch.bfloat16),
        [math.inf],
    ],
    ids=str,
)
def test_nonfinite_is_kept_apart(value: Any) -> None:
    """NaN and infinities of any kind are noted, and never among the signals."""
    observation = observe(loss=value, kl=0.1)
    assert observation.signals == {"kl": 0.1}
    assert not math.isfinite(observation.nonfinite["loss"])
    assert observation.poisoned


@pytest.mark.parametrize("value", [None, [], (), np.array([]), torch.tensor([])], ids=repr)
def test_absent(value: Any) -> None:
    """None and empty arrays are the same as not logging it."""
    observation = observe({"loss": value}, kl=value, rewards=value, completions=value, my_own=value)
    assert (observation.signals, observation.nonfinite, observation.samples) == ({}, {}, {})


WRONG = [
    "high",
    "",
    object(),
    {},
    {"a": 1},
    1j,
    [1, 2, 3],
    np.ones((2, 2)),
    torch.ones(3),
    torch.ones(2, dtype=torch.complex64),
    [[1], [2, 3]],
    ["a", "b"],
    np.array(["a"]),
    {1, 2},
    lambda: 1,
    torch.ones(2).to_sparse(),
    torch.ones((), device="meta"),
    Ellipsis,
    range(4),
]


@pytest.mark.parametrize("value", WRONG, ids=lambda value: f"{type(value).__name__}-{str(value)[:24]}")
def test_a_wrong_value_costs_one_warning(value: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Ten rows of it: one warning that names the key, the other signals are judged, nothing raises."""
    watch = quiet_watch()
    for _ in range(10):
        watch.log({"grad_norm": 1.0, "reward_mean": 0.5, "train/loss": value})
    assert len(caplog.messages) == 1, caplog.messages
    assert "loss'" in caplog.messages[0]
    assert watch.coverage()["gradient_spike"].state == "armed"


@pytest.mark.parametrize("value", WRONG, ids=lambda value: f"{type(value).__name__}-{str(value)[:24]}")
def test_strict_raises_on_it(value: Any) -> None:
    """`strict=True` raises, and the error names the key."""
    with pytest.raises(ValueError, match="loss"):
        quiet_watch(strict=True).log({"train/loss": value})


WRONG_ARRAYS = ["high", "", object(), 1j, ["a", "b"], [[1], [2, 3]], {"a": "x"}, torch.ones(2, dtype=torch.complex64)]


@pytest.mark.parametrize("key", ["rewards", "advantages", "response_lengths", "reward_components"])
@pytest.mark.parametrize("value", WRONG_ARRAYS, ids=lambda value: f"{type(value).__name__}-{str(value)[:24]}")
def test_a_wrong_array_costs_one_warning(key: str, value: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Ten rows of it: one warning that names the key, the other signals are judged, nothing raises."""
    watch = quiet_watch()
    for _ in range(10):
        watch.log({"grad_norm": 1.0, key: value})
    assert len(caplog.messages) == 1, caplog.messages
    assert key in caplog.messages[0]
    assert watch.coverage()["gradient_spike"].state == "armed"


@pytest.mark.parametrize("key", ["completions", "prompts"])
@pytest.mark.parametrize("value", [5, 1.5, object(), "one text"], ids=repr)
def test_texts_that_are_none_cost_one_warning(key: str, value: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Something that is no list of texts is named, too."""
    watch = quiet_watch()
    for _ in range(5):
        watch.log({"grad_norm": 1.0, key: value})
    assert len(caplog.messages) == 1, caplog.messages
    assert key in caplog.messages[0]


ARRAYS = [
    [1.0, 2.0, 3.0],
    (1, 2, 3),
    np.array([1, 2, 3]),
    np.array([1, 2, 3], dtype=np.float16),
    np.array([[1.0, 2.0, 3.0]]),
    torch.tensor([1.0, 2.0, 3.0]),
    torch.tensor([1, 2, 3]),
    torch.tensor([1.0, 2.0, 3.0], dtype=torch.bfloat16),
    torch.tensor([1.0, 2.0, 3.0], requires_grad=True),
    [np.float32(1), np.int64(2), 3],
    [np.array(1.0), np.array(2.0), np.array(3.0)],
    [np.array([1.0]), np.array([2.0]), np.array([3.0])],
    [torch.tensor(1.0), torch.tensor(2.0), torch.tensor(3.0)],
    [torch.tensor(1.0, requires_grad=True), torch.tensor(2.0), torch.tensor(3.0)],
    [torch.tensor(float(x), dtype=torch.bfloat16) for x in (1, 2, 3)],
    ["1", "2", "3"],
]


@pytest.mark.parametrize("value", ARRAYS, ids=lambda value: f"{type(value).__name__}-{str(value)[:40]}")
def test_any_kind_of_array(value: Any) -> None:
    """Lists, tuples, NumPy and torch arrays of every kind, and lists of scalars of each, are the samples they hold."""
    observation = observe(rewards=value)
    assert observation.samples["rewards"].tolist() == [1.0, 2.0, 3.0]
    assert observation.samples["rewards"].dtype == np.float64
    assert observation.signals == pytest.approx({"reward_mean": 2.0, "reward_std": 1.0})


def test_arrays_are_copies() -> None:
    """The loop may reuse its buffers."""
    for buffer in (np.ones(3), torch.ones(3, dtype=torch.float64)):
        observation = observe(rewards=buffer)
        buffer[:] = 5.0
        assert observation.samples["rewards"].tolist() == [1.0, 1.0, 1.0]


def test_none_and_nan_among_the_samples() -> None:
    """A sample that a function does not judge is NaN in the array and out of the mean."""
    observation = observe(rewards=[1.0, None, 3.0, math.nan])
    assert np.isnan(observation.samples["rewards"]).tolist() == [False, True, False, True]
    assert observation.signals["reward_mean"] == 2.0


def test_means_that_are_logged_win_over_derived_ones() -> None:
    """A logged mean is not replaced by the array's; the missing deviation is filled in."""
    observation = observe(reward_mean=9.0, rewards=[1.0, 3.0])
    assert observation.signals["reward_mean"] == 9.0
    assert observation.signals["reward_std"] == pytest.approx(math.sqrt(2.0))


def test_a_signal_is_finite_or_not() -> None:
    """A NaN mean beside the array that it is the mean of: one of them counts, not both."""
    observation = observe(reward_mean=math.nan, rewards=[1.0, 3.0])
    assert not set(observation.signals) & set(observation.nonfinite)


def test_one_sample_has_no_deviation() -> None:
    """A batch of one gives a mean only."""
    assert observe(rewards=[2.0]).signals == {"reward_mean": 2.0}


@pytest.mark.filterwarnings("error")
def test_huge_samples_stay_finite_signals() -> None:
    """The mean and deviation of samples near the largest float are no infinite signals, and no NumPy warning."""
    observation = observe(rewards=[1.7e308, 1.7e308, -1.7e308, 1.7e308], advantages=[1e200, -1e200])
    assert all(math.isfinite(value) for value in observation.signals.values())


def test_a_gold_score_by_sample() -> None:
    """An array under the name of a mean is taken as the samples it is the mean of."""
    for value in ([0.0, 1.0], np.array([0.0, 1.0]), torch.tensor([0.0, 1.0])):
        observation = observe(gold_score=value)
        assert observation.samples["gold_scores"].tolist() == [0.0, 1.0]
        assert observation.signals == {"gold_score": 0.5}


def test_a_mean_under_the_name_of_its_samples() -> None:
    """`rewards=0.5` is the mean reward, whatever kind of number it is."""
    for value in (0.5, np.float32(0.5), np.float64(0.5), torch.tensor(0.5), np.array(0.5)):
        assert observe(rewards=value).signals["reward_mean"] == 0.5


def test_reward_components() -> None:
    """A dict of name -> array; unusable parts are left out, the others stay."""
    observation = observe(
        strict=False, reward_components={"format": [1, 0], "length": torch.tensor([0.5, 0.25]), "bad": ["x", "y"]}
    )
    parts = observation.samples["reward_components"]
    assert {name: array.tolist() for name, array in parts.items()} == {"format": [1.0, 0.0], "length": [0.5, 0.25]}


def test_a_dict_under_rewards_does_not_switch_the_watch_off() -> None:
    """`rewards={name: array}` (meant as components) must not cost the other signals their judgement."""
    watch = quiet_watch()
    for row in range(10):
        verdict = watch.log(rewards={"format": [1.0, 0.0]}, grad_norm=1.0, loss=math.nan if row == 9 else 0.1)
    assert verdict.critical
    assert watch.coverage()["gradient_spike"].state == "armed"


def test_conversational_completions() -> None:
    """A chat is its last message; texts are themselves; anything else is its `str`."""
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    observation = observe(completions=[chat, "plain", [{"role": "assistant", "content": None}], []])
    assert observation.samples["completions"][:3] == ["hello", "plain", ""]
    assert all(isinstance(text, str) for text in observation.samples["completions"])


def test_group_ids_may_be_texts() -> None:
    """verl's uids are UUIDs: equal texts are the same group, and nothing complains."""
    observation = observe(group_ids=["a-1", "a-1", "b-2"], rewards=[0.0, 1.0, 1.0])
    ids = observation.samples["group_ids"]
    assert len(ids) == 3
    assert ids[0] == ids[1] != ids[2]


def test_unknown_numbers_are_kept() -> None:
    """A number under a name that no alias knows is recorded, not judged; other values there are ignored."""
    observation = observe({"my/own": 3, "my/text": "x", "my/array": np.ones(3), "my/flag": True, "kl": 0.1})
    assert observation.extra == {"my/own": 3.0}
    assert observe({"my/big": 10**400}).extra == {"my/big": math.inf}
    assert observe({"my/big": -(10**400)}).extra == {"my/big": -math.inf}


def test_unknown_values_of_any_kind_are_ignored() -> None:
    """Under an unknown name nothing complains, whatever it is."""
    for value in (*WRONG, *NUMBERS, *ARRAYS, *WRONG_ARRAYS):
        observe({"my/thing": value})


def test_signal_map() -> None:
    """`signal_map={"kl": "my/kl"}` names a key of one's own, and outranks the framework's."""
    watch = quiet_watch(strict=True, signal_map={"kl": "my/kl", "rewards": "my/rewards"})
    observation, _ = watch._intake.observe({"my/kl": 0.5, "objective/kl": 9.0, "my/rewards": [1.0, 2.0]}, {}, None)
    assert observation.signals["kl"] == 0.5
    assert observation.signals["reward_mean"] == 1.5


STEPS = [5, 5.0, np.int64(5), np.float32(5), "5", torch.tensor(5)]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{type(step).__name__}")
def test_any_kind_of_step(step: Any) -> None:
    """The step may be any kind of whole number, as a keyword or in the dict."""
    assert observe(step=step, kl=0.1).step == 5
    assert observe({"global_step": step, "kl": 0.1}).step == 5


def test_the_step_is_no_signal() -> None:
    """Under any of its names it is not recorded twice."""
    for key in ("step", "global_step", "_step"):
        observation = observe({key: 7, "kl": 0.1})
        assert (observation.step, observation.signals, observation.extra) == (7, {"kl": 0.1}, {})


def test_steps_missing_repeating_going_back() -> None:
    """Without a step one more than the last; whatever is given is taken; rows are counted apart."""
    intake = Intake(Guest(strict=True))
    rows = [intake.observe({}, {"kl": 0.1}, step)[0] for step in (None, None, 10, None, 10, 3, None, -4)]
    assert [row.step for row in rows] == [0, 1, 10, 11, 10, 3, 4, -4]
    assert [row.row for row in rows] == list(range(8))


@pytest.mark.parametrize("step", ["soon", math.nan, math.inf, [1, 2], {}, object(), torch.ones(2), 1j], ids=repr)
def test_a_bad_step(step: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Rows are counted instead, one warning says so, and the row is judged."""
    watch = quiet_watch()
    steps = [watch.log(step=step, loss=0.1).step for _ in range(5)]
    assert steps == [0, 1, 2, 3, 4]
    assert watch.log(step=step, loss=math.nan).critical
    assert len([message for message in caplog.messages if "step" in message]) == 1


def test_a_huge_step() -> None:
    """Steps are Python ints of any size."""
    assert quiet_watch(strict=True).log(step=10**30, kl=0.1).step == 10**30


@pytest.mark.parametrize(
    "metrics",
    [
        5,
        "loss",
        b"x",
        [1, 2],
        [("loss", 1.0)],
        (1,),
        {1, 2},
        object(),
        np.ones(3),
        np.array(1.0),
        torch.ones(3),
        torch.tensor(1.0),
    ],
    ids=lambda value: f"{type(value).__name__}-{str(value)[:20]}",
)
def test_metrics_that_are_no_dict(metrics: Any, caplog: pytest.LogCaptureFixture) -> None:
    """One warning that says so; the keywords of the same call are judged, for as long as it goes on."""
    watch = quiet_watch()
    for _ in range(10):
        watch.log(metrics, grad_norm=1.0)
    assert len(caplog.messages) == 1, caplog.messages
    assert "metrics" in caplog.messages[0]
    assert watch.coverage()["gradient_spike"].seen == 10


def test_keys_that_are_no_strings(caplog: pytest.LogCaptureFixture) -> None:
    """They are left out with a warning each; the rest is judged."""
    watch = quiet_watch()
    for _ in range(10):
        watch.log({1: 2.0, None: 3.0, ("a", "b"): 1.0, 1.5: 1.0, b"kl": 1.0, "grad_norm": 1.0})
    assert len(caplog.messages) == 5
    assert all("names are strings" in message for message in caplog.messages)
    assert watch.coverage()["gradient_spike"].seen == 10


def test_strange_strings_as_keys() -> None:
    """Empty, endless, and unprintable names are names."""
    watch = quiet_watch(strict=True)
    watch.log({"": 1.0, "x" * 100_000: 1.0, "\x00\ud800": 1.0, "🦆": 1.0, "kl ": 0.1, "../../etc": 1.0})


def test_ever_new_names_cost_no_memory() -> None:
    """10,001 and more distinct keys: what is kept of them is bounded."""
    intake = Intake(Guest())
    for row in range(110):
        intake.observe({f"name/{row}/{index}": 1.0 for index in range(200)}, {"kl": 0.1}, None)
    assert len(intake._routes) <= 10_001
    observation, _ = intake.observe({"grad_norm": 1.0, "kl_to_reference": 0.2}, {}, None)
    assert observation.signals == {"grad_norm": 1.0, "kl": 0.2}


def test_ever_new_bad_keys_cost_no_memory(caplog: pytest.LogCaptureFixture) -> None:
    """A loop that uses numbers as names is told so a few times, not once a row for ever."""
    intake = Intake(Guest())
    for row in range(2000):
        intake.observe({row: 1.0, "kl": 0.1}, {}, None)
    assert len(intake.guest._said) < 200
    assert len(caplog.messages) < 200


def test_a_value_that_raises_costs_only_itself() -> None:
    """An object whose conversion fails in its own way does not take the row with it."""

    class Lazy:
        def __float__(self) -> float:
            raise RuntimeError("not computed yet")

        def __array__(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("not computed yet")

    watch = quiet_watch()
    for _ in range(10):
        watch.log(kl=Lazy(), rewards=Lazy(), loss=Lazy(), grad_norm=1.0)
    assert watch.coverage()["gradient_spike"].seen == 10


def test_the_dict_is_not_changed() -> None:
    """The loop's own dict stays as it was."""
    metrics = {"loss": torch.tensor(1.0), "rewards": [1.0, None], "x": None, "step": 3}
    before = dict(metrics)
    quiet_watch(strict=True).log(metrics)
    assert metrics == before


ANYTHING = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=5),
        st.binary(max_size=5),
        st.complex_numbers(),
        st.decimals(),
        st.fractions(),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=5,
)
KEYS = st.sampled_from(
    [
        "loss",
        "kl",
        "rewards",
        "advantages",
        "completions",
        "prompts",
        "reward_components",
        "group_ids",
        "step",
        "gold_score",
        "entropy",
        "train/entropy_loss",
        "x",
    ]
)


@given(st.lists(st.dictionaries(KEYS, ANYTHING, max_size=6), min_size=1, max_size=4))
def test_whatever_is_logged_only_bad_input_is_named(rows: list[dict[str, Any]]) -> None:
    """No value under any key makes `Watch.log` fail: no part of ours is counted as broken."""
    watch = quiet_watch()
    for row in rows:
        watch.log(row)
    assert watch._guest.failures == {}
    assert watch.rows == len(rows)


KEYS = ("loss", "train/loss", "kl", "reward", "rewards", "mine", "epoch", "step", "entropy", "clip_ratio/region_mean")
VALUES = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(-5.0, 5.0),
    st.sampled_from([None, 1, True, "0.5", "what", np.float32(0.5), np.float64("nan"), np.float16(2.0), 10**400]),
    st.just([0.5, None, 1.0]),
)


@given(
    st.lists(st.lists(VALUES, min_size=len(KEYS), max_size=len(KEYS)), min_size=3, max_size=6),
    st.permutations(KEYS),
    st.integers(1, len(KEYS)),
    st.dictionaries(st.sampled_from(["loss", "kl", "gold_score"]), VALUES, max_size=2),
)
def test_a_row_like_the_last_is_read_as_if_it_were_the_first(
    table: list[list[Any]], names: list[str], count: int, keywords: dict[str, Any]
) -> None:
    """What is remembered of the rows before makes it fast and changes nothing."""
    one = Intake(Guest())
    for values in table:
        for row in (dict(zip(names[:count], values, strict=False)), dict.fromkeys(names[:count], 0.25)):
            seen, _ = one.observe(row, keywords, 3)
            new, _ = Intake(Guest()).observe(row, keywords, 3)
            for field in ("signals", "nonfinite", "extra"):
                assert repr(sorted(getattr(seen, field).items())) == repr(sorted(getattr(new, field).items()))
            assert {k: v.tolist() for k, v in seen.samples.items()}.keys() == new.samples.keys()


def test_numpy_scalars_and_tensors_on_the_cpu_are_read_as_floats() -> None:
    """Each of NumPy's floats and a tensor of one element become Python's; a subclass that misbehaves costs itself."""

    class Bad(float):
        def __sub__(self, other: float) -> float:
            raise RuntimeError("no")

    intake = Intake(Guest())
    for _ in range(3):
        row = {"kl": np.float32(0.5), "loss": np.float64(0.25), "entropy": np.float16(2.0), "mine": np.float32(0.5)}
        obs, _ = intake.observe({**row, "grad_norm": Bad(1.0)}, {}, None)
        assert obs.signals == {"kl": 0.5, "loss": 0.25, "entropy": 2.0, "grad_norm": 1.0}
        assert {type(value) for value in (*obs.signals.values(), *obs.extra.values())} <= {float, Bad}
        assert obs.extra == {"mine": 0.5}


def test_kinds_of_rows_are_remembered_within_bounds() -> None:
    """A loop that logs ever new sets of names is read all the same."""
    intake = Intake(Guest())
    for row in range(3 * MAX_LAYOUTS):
        for _ in range(2):
            obs, _ = intake.observe({"loss": 0.5, f"mine_{row}": 1.0}, {}, None)
            assert obs.signals == {"loss": 0.5}
            assert obs.extra == {f"mine_{row}": 1.0}
    assert len(intake._layouts) <= MAX_LAYOUTS


def test_rows_of_one_layout_say_so() -> None:
    """Once it is known they name the same layout; a row with another value, or with keywords, names none."""
    intake, row = Intake(Guest(True)), {"kl": 0.1, "loss": 0.5}
    given = [(row, {}), (row, {}), (row, {}), (dict(row), {}), ({**row, "kl": math.nan}, {}), (row, {"entropy": 1.0})]
    first, _, third, fourth, nan, more = (intake.observe(metrics, also, None)[0] for metrics, also in given)
    assert third.layout is fourth.layout is not None
    assert third.signals.keys() == fourth.signals.keys() == row.keys()
    assert first.layout is nan.layout is more.layout is None
