"""`rlwatch.functional` against direct float64 computations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlwatch import functional as F  # noqa: N812
from rlwatch.functional.logits import _pieces
from rlwatch.functional.logprobs import Estimator

INF = math.inf


def randn(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def log_softmax(x: Any) -> Any:
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def entropy(logits: torch.Tensor, temperature: float = 1.0) -> Any:
    """Per token, in float64."""
    log_p = log_softmax(logits.double().numpy() / temperature)
    p = np.exp(log_p)
    return -np.where(p > 0, p * np.where(p > 0, log_p, 0), 0).sum(-1)


def divergence(p: torch.Tensor, q: torch.Tensor) -> Any:
    log_p, log_q = log_softmax(p.double().numpy()), log_softmax(q.double().numpy())
    keep = log_p > -INF
    return np.where(keep, np.exp(log_p) * (np.where(keep, log_p, 0) - np.where(keep, log_q, 0)), 0).sum(-1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_entropy_agrees_with_float64(dtype: torch.dtype) -> None:
    """The entropy of logits in any precision is that of the same logits in float64."""
    logits = randn(3, 7, 501, scale=3).to(dtype)
    mask = torch.tensor([[1] * 7, [1] * 3 + [0] * 4, [0] * 7])
    expected = entropy(logits)[mask.numpy() == 1].mean()
    got = F.entropy_from_logits(logits, mask)
    assert got.shape == ()
    assert got.dtype == (torch.float64 if dtype is torch.float64 else torch.float32)
    assert float(got) == pytest.approx(expected, rel=1e-5)
    assert np.allclose(F.entropy_from_logits(logits, reduction="none"), entropy(logits), rtol=1e-5)


def test_entropy_of_known_distributions() -> None:
    """Uniform gives log V, a certain token 0, and temperature acts as a division."""
    assert float(F.entropy_from_logits(torch.zeros(4, 100))) == pytest.approx(math.log(100))
    certain = torch.full((2, 5), -INF)
    certain[:, 3] = 0
    assert float(F.entropy_from_logits(certain)) == 0
    logits = randn(4, 50)
    assert float(F.entropy_from_logits(logits, temperature=0.7)) == pytest.approx(entropy(logits, 0.7).mean(), rel=1e-5)


def test_entropy_with_excluded_vocabulary() -> None:
    """A logit of -inf is a token that cannot occur, not a NaN."""
    logits = randn(2, 3, 40)
    logits[..., 10:] = -INF
    per_token = F.entropy_from_logits(logits, reduction="none")
    assert np.allclose(per_token, entropy(logits[..., :10]), rtol=1e-5)


def test_a_broken_token_shows_unless_it_is_masked() -> None:
    """NaN, +inf and rows without any token give NaN; in a masked place they do not count."""
    logits = randn(4, 30)
    logits[0, 0], logits[1, 0], logits[2, :] = math.nan, INF, -INF
    per_token = F.entropy_from_logits(logits, reduction="none")
    assert per_token.isnan().tolist() == [True, True, True, False]
    assert F.entropy_from_logits(logits).isnan()
    assert F.kl_from_logits(logits, randn(4, 30), reduction="none").isnan().tolist() == [True, True, True, False]
    good = torch.tensor([False, False, False, True])
    assert torch.equal(F.entropy_from_logits(logits, good), per_token[3])


def test_the_chunk_does_not_change_the_entropy() -> None:
    """Tokens computed one at a time, seven at a time or together give the same bits."""
    logits = randn(5, 9, 33)
    whole = F.entropy_from_logits(logits, chunk=1000, reduction="none")
    for chunk in (1, 7, 45):
        assert torch.equal(F.entropy_from_logits(logits, chunk=chunk, reduction="none"), whole)
    assert torch.equal(F.entropy_from_logits(logits, reduction="none"), whole)


def test_a_slice_of_logits_is_not_copied() -> None:
    """The usual `logits[:, :-1]` is cut into views, none larger than the chunk."""
    logits = randn(3, 8, 16)
    pieces = [piece for (piece,) in _pieces((logits[:, :-1],), rows=4)]
    assert [tuple(piece.shape) for piece in pieces] == [(4, 16), (3, 16)] * 3
    memory = logits.untyped_storage().data_ptr()
    assert all(piece.untyped_storage().data_ptr() == memory for piece in pieces)
    whole = F.entropy_from_logits(logits, reduction="none")
    assert torch.equal(F.entropy_from_logits(logits[:, :-1], reduction="none"), whole[:, :-1])
    assert torch.equal(F.entropy_from_logits(logits.transpose(0, 1), reduction="none"), whole.T)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(0, 4), max_size=3),
    vocabulary=st.integers(1, 12),
    chunk=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_entropy_and_kl_of_any_shape(shape: list[int], vocabulary: int, chunk: int, seed: int) -> None:
    """Any leading shape, empty ones and none at all included, keeps its form and its values."""
    p, q = randn(*shape, vocabulary, seed=seed), randn(*shape, vocabulary, seed=seed + 1)
    h = F.entropy_from_logits(p, chunk=chunk, reduction="none")
    assert h.shape == tuple(shape)
    assert np.allclose(h, entropy(p) if p.numel() else 0, atol=1e-5)
    kl = F.kl_from_logits(p, q, chunk=chunk, reduction="none")
    assert kl.shape == tuple(shape)
    assert np.allclose(kl, divergence(p, q) if p.numel() else 0, atol=1e-5)
    assert bool((kl >= 0).all())


def test_kl_is_from_the_first_to_the_second() -> None:
    """KL(p || q) takes the expectation under p, with a mask and in half precision too."""
    p, q = randn(2, 6, 40, seed=1, scale=2).bfloat16(), randn(2, 6, 40, seed=2, scale=2).bfloat16()
    mask = torch.tensor([[1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0]], dtype=torch.bool)
    expected = divergence(p, q)
    assert float(F.kl_from_logits(p, q, mask)) == pytest.approx(expected[mask.numpy()].mean(), rel=1e-5)
    assert float(F.kl_from_logits(q, p)) == pytest.approx(divergence(q, p).mean(), rel=1e-5)
    assert float(F.kl_from_logits(p, p)) == 0
    close = F.kl_from_logits(randn(500, 40), randn(500, 40) + randn(500, 40, seed=1, scale=1e-5), reduction="none")
    assert bool((close >= 0).all())
    cold = divergence(p.double() / 0.5, q.double() / 0.5)
    assert float(F.kl_from_logits(p, q, temperature=0.5)) == pytest.approx(cold.mean(), rel=1e-5)


def test_kl_with_excluded_vocabulary() -> None:
    """Tokens that p excludes add nothing; a token that only q excludes makes it infinite."""
    p, q = randn(3, 20, seed=1), randn(3, 20, seed=2)
    p[:, 12:] = -INF
    expected = divergence(p, q)
    assert np.allclose(F.kl_from_logits(p, q, reduction="none"), expected, rtol=1e-5)
    q[:, 15:] = -INF
    assert bool(F.kl_from_logits(p, q, reduction="none").isfinite().all())
    q[1, 0] = -INF
    assert F.kl_from_logits(p, q, reduction="none").isinf().tolist() == [False, True, False]
    tiny = torch.tensor([[0.0, -500.0]])
    assert float(F.kl_from_logits(tiny, torch.tensor([[0.0, -INF]]))) == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_kl_estimators(dtype: torch.dtype) -> None:
    """k1, k2 and k3 agree with their formulas in float64."""
    old, new = (randn(4, 25, seed=1) - 3).to(dtype), (randn(4, 25, seed=2) - 3).to(dtype)
    mask = (torch.arange(25) < torch.tensor([[25], [10], [1], [0]])).long()
    d = (new.double() - old.double()).numpy()[mask.numpy() == 1]
    expected: dict[Estimator, float] = {"k1": -d.mean(), "k2": (d**2).mean() / 2, "k3": (np.exp(d) - 1 - d).mean()}
    for estimator, value in expected.items():
        got = F.kl_from_logprobs(new, old, mask, estimator=estimator)
        assert float(got) == pytest.approx(value, rel=1e-5)
    assert float(F.kl_from_logprobs(new, old, mask)) == pytest.approx(expected["k3"], rel=1e-5)


def test_kl_estimators_have_the_expectation_they_claim() -> None:
    """On samples of `old`, k1 and k3 average to KL(old || new), not to its reverse."""
    old, new = torch.tensor([0.0, 1.0, 3.0]), torch.tensor([1.0, 0.0, 0.5])
    p = torch.softmax(old, -1)
    counts = (p * 300_000).round().long()
    tokens = torch.arange(3).repeat_interleave(counts)
    logp_old, logp_new = torch.log_softmax(old, -1)[tokens], torch.log_softmax(new, -1)[tokens]
    exact = float(F.kl_from_logits(old, new))
    assert exact != pytest.approx(float(F.kl_from_logits(new, old)), rel=0.05)
    estimators: tuple[Estimator, ...] = ("k1", "k3")
    for estimator in estimators:
        assert float(F.kl_from_logprobs(logp_new, logp_old, estimator=estimator)) == pytest.approx(exact, rel=1e-3)


def test_k3_is_accurate_near_zero() -> None:
    """A divergence of 1e-9 is not lost to rounding in float32, and k3 is never negative."""
    d = torch.full((1000,), 4e-5)
    expected = math.expm1(4e-5) - 4e-5
    assert float(F.kl_from_logprobs(d, torch.zeros(1000))) == pytest.approx(expected, rel=0.01)
    assert all(float(F.kl_from_logprobs(small, torch.tensor(0.0))) >= 0 for small in randn(200, scale=1e-5))


def test_clip_fraction_plain_and_active() -> None:
    """Plain counts every ratio outside the range; active only those whose gradient the clip removes."""
    ratio = torch.tensor([0.5, 0.79, 0.81, 1.0, 1.19, 1.21, 1.21, 3.0])
    advantages = torch.tensor([1.0, -1.0, -1.0, 1.0, 1.0, 1.0, -1.0, 0.0])
    new, old = ratio.log() - 2, torch.full((8,), -2.0)
    assert float(F.clip_fraction(new, old, 0.2)) == 5 / 8
    assert float(F.clip_fraction(new, old, 0.2, advantages=advantages)) == 2 / 8
    assert float(F.clip_fraction(new, old, (0.2, 0.28))) == 3 / 8
    mask = torch.tensor([1, 1, 0, 0, 0, 0, 0, 0])
    assert float(F.clip_fraction(new, old, 0.2, mask)) == 1
    assert float(F.clip_fraction(new, old, 0.2, mask, advantages)) == 0.5


def test_clip_fraction_against_float64() -> None:
    """Token log-probabilities with an advantage for each sequence agree with the direct computation."""
    old, new = randn(6, 30, seed=3) - 4, randn(6, 30, seed=3) - 4 + randn(6, 30, seed=4, scale=0.3)
    advantages, mask = randn(6, seed=5), randn(6, 30, seed=6) > 0
    ratio = np.exp(new.double().numpy() - old.double().numpy())
    a = advantages.numpy()[:, None]
    active = ((a > 0) & (ratio > 1.2)) | ((a < 0) & (ratio < 0.8))
    got = F.clip_fraction(new, old, 0.2, mask, advantages)
    assert float(got) == pytest.approx(active[mask.numpy()].mean())
    plain = np.abs(ratio - 1) > 0.2
    assert float(F.clip_fraction(new, old, 0.2, mask)) == pytest.approx(plain[mask.numpy()].mean())


def test_a_broken_ratio_is_not_called_unclipped() -> None:
    """NaN in a log-probability or an advantage gives NaN, unless it is masked."""
    new, old, advantages = torch.zeros(3), torch.zeros(3), torch.ones(3)
    new[1] = math.nan
    rest = torch.tensor([1, 0, 1])
    assert F.clip_fraction(new, old, 0.2).isnan()
    assert float(F.clip_fraction(new, old, 0.2, rest)) == 0
    advantages[0] = math.nan
    assert F.clip_fraction(old, old, 0.2, advantages=advantages).isnan()


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_explained_variance(offset: float) -> None:
    """It is 1 - Var(returns - values) / Var(returns), also far from zero."""
    returns = randn(400, seed=1) + offset
    values = 0.8 * returns + randn(400, seed=2, scale=0.5)
    r, v = returns.double().numpy(), values.double().numpy()
    expected = 1 - np.var(r - v) / np.var(r)
    assert float(F.explained_variance(values, returns)) == pytest.approx(expected, rel=1e-3)
    mask = randn(400, seed=3) > 0
    keep = mask.numpy()
    expected = 1 - np.var(r[keep] - v[keep]) / np.var(r[keep])
    assert float(F.explained_variance(values, returns, mask)) == pytest.approx(expected, rel=1e-3)


def test_explained_variance_of_known_critics() -> None:
    """A perfect critic has 1, a constant 0, the negated one below 0; constant returns have none."""
    returns = randn(100)
    assert float(F.explained_variance(returns, returns)) == 1
    assert float(F.explained_variance(torch.full((100,), 7.0), returns)) == pytest.approx(0, abs=1e-6)
    assert float(F.explained_variance(-returns, returns)) == pytest.approx(-3, rel=1e-5)
    assert F.explained_variance(returns, torch.full((100,), 0.1)).isnan()
    assert F.explained_variance(returns, torch.zeros(100)).isnan()


def test_effective_sample_size() -> None:
    """It is (sum w)^2 / (N sum w^2), from logarithms or weights, with a mask."""
    log_w = randn(5, 40, seed=1)
    mask = randn(5, 40, seed=2) > 0
    w = np.exp(log_w.double().numpy())
    assert float(F.effective_sample_size(log_w)) == pytest.approx(w.sum() ** 2 / (w.size * (w**2).sum()), rel=1e-5)
    w = w[mask.numpy()]
    expected = w.sum() ** 2 / (w.size * (w**2).sum())
    assert float(F.effective_sample_size(log_w, mask)) == pytest.approx(expected, rel=1e-5)
    assert float(F.effective_sample_size(weights=log_w.exp(), mask=mask)) == pytest.approx(expected, rel=1e-5)


def test_effective_sample_size_at_the_ends() -> None:
    """Equal weights give 1 at any scale, one dominant weight 1/N, none NaN."""
    for scale in (-500.0, 0.0, 500.0):
        assert float(F.effective_sample_size(torch.full((50,), scale))) == pytest.approx(1, rel=1e-4)
    one = torch.full((50,), -1000.0)
    one[3] = 0
    assert float(F.effective_sample_size(one)) == pytest.approx(1 / 50)
    assert float(F.effective_sample_size(weights=torch.tensor([0.0, 0.0, 2.0, 2.0]))) == pytest.approx(0.5)
    assert F.effective_sample_size(weights=torch.zeros(4)).isnan()
    assert F.effective_sample_size(weights=torch.tensor([1.0, -1.0])).isnan()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.booleans()), max_size=40))
def test_masked_mean(pairs: list[tuple[float, bool]]) -> None:
    """The mean is over the selected elements alone, whatever stands in the others."""
    values = torch.tensor([value for value, _ in pairs], dtype=torch.float64)
    mask = torch.tensor([selected for _, selected in pairs], dtype=torch.bool)
    chosen = values[mask].numpy()
    got = F.masked_mean(values.masked_fill(~mask, math.nan), mask)
    assert bool(got.isnan()) if chosen.size == 0 else float(got) == pytest.approx(chosen.mean(), abs=1e-6)


def test_a_mask_that_selects_nothing_gives_nan() -> None:
    """There is no mean of nothing, and no silent zero."""
    x, none = randn(2, 3), torch.zeros(2, 3)
    logits = randn(2, 3, 5)
    results = [
        F.entropy_from_logits(logits, none),
        F.kl_from_logits(logits, logits, none),
        F.kl_from_logprobs(x, x, none),
        F.clip_fraction(x, x, 0.2, none),
        F.explained_variance(x, x, none),
        F.effective_sample_size(x, none),
        F.masked_mean(x, none),
    ]
    assert all(result.isnan() for result in results)


def all_functions(device: str) -> list[torch.Tensor]:
    """Every function once, on one device."""
    logits = torch.zeros(2, 3, 5, device=device)
    x, mask = torch.zeros(2, 3, device=device), torch.ones(2, 3, device=device, dtype=torch.bool)
    return [
        F.entropy_from_logits(logits, mask, temperature=0.9, chunk=2),
        F.entropy_from_logits(logits[:, :-1], reduction="none"),
        F.kl_from_logits(logits, logits, mask),
        F.kl_from_logprobs(x, x, mask, estimator="k1"),
        F.kl_from_logprobs(x, x, mask, estimator="k2"),
        F.kl_from_logprobs(x, x, mask, estimator="k3"),
        F.clip_fraction(x, x, 0.2, mask),
        F.clip_fraction(x, x, (0.2, 0.3), mask, x),
        F.clip_fraction(x, x, 0.2, advantages=x[:, 0]),
        F.explained_variance(x, x, mask),
        F.effective_sample_size(x, mask),
        F.effective_sample_size(weights=x),
        F.masked_mean(x),
    ]


def test_nothing_depends_on_values() -> None:
    """All run on the meta device, where there are none to read: so no host ever waits for them."""
    assert all(result.device.type == "meta" for result in all_functions("meta"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_no_host_wait_on_cuda() -> None:
    """CUDA's own check for synchronisation stays silent, and results stay on the device."""
    all_functions("cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        results = all_functions("cuda")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(result.is_cuda for result in results)
    for got, expected in zip(results, all_functions("cpu"), strict=True):
        assert torch.allclose(got.cpu(), expected, equal_nan=True)


def test_no_gradient_is_recorded() -> None:
    """They are for looking, not for training."""
    logits = randn(2, 5).requires_grad_()
    assert not F.entropy_from_logits(logits).requires_grad
    assert not F.kl_from_logits(logits, logits.detach()).requires_grad
    assert not F.explained_variance(logits, logits * 2).requires_grad


def test_misuse_is_told() -> None:
    """Shapes that do not fit and unknown choices raise before anything is computed."""
    x, logits = randn(4), randn(4, 5)
    with pytest.raises(ValueError, match="mask has shape"):
        F.entropy_from_logits(logits, mask=torch.ones(4, 5))
    with pytest.raises(ValueError, match="vocabulary"):
        F.entropy_from_logits(torch.tensor(1.0))
    with pytest.raises(ValueError, match="temperature"):
        F.entropy_from_logits(logits, temperature=0)
    with pytest.raises(ValueError, match="chunk"):
        F.entropy_from_logits(logits, chunk=0)
    with pytest.raises(ValueError, match="reduction"):
        F.entropy_from_logits(logits, reduction="sum")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="logits_q"):
        F.kl_from_logits(logits, logits[:2])
    with pytest.raises(ValueError, match="logp_old"):
        F.kl_from_logprobs(x, x[:, None])
    with pytest.raises(ValueError, match="estimator"):
        F.kl_from_logprobs(x, x, estimator="k4")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="clip"):
        F.clip_fraction(x, x, -0.1)
    with pytest.raises(ValueError, match="advantages"):
        F.clip_fraction(logits, logits, 0.1, advantages=torch.ones(5, 5))
    with pytest.raises(ValueError, match="returns"):
        F.explained_variance(x[:, None], x)
    with pytest.raises(ValueError, match="either"):
        F.effective_sample_size()
