"""Two equal models learn in turns, one of them watched: the difference of each pair of pieces."""

from __future__ import annotations

import gc
import random
import tempfile
import threading
import time
import warnings
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback

from rlwatch.adapters.sb3 import RLWatchCallback
from sb3_parts.cases import Case


class Turns:
    """Lets one of two threads run at a time, each with its own random numbers and its own torch functions."""

    def __init__(self) -> None:
        self._gates = [threading.Semaphore(0), threading.Semaphore(0)]
        self._ended = False

    def begin(self, number: int) -> None:
        """Wait for the first turn; number 0 has it."""
        if number:
            self._gates[number].acquire()

    def end(self, number: int) -> None:
        """The other runs alone from now on."""
        self._ended = True
        self._gates[1 - number].release()

    def over(self, number: int) -> None:
        """Let the other have its turn, and wait for the next one."""
        if self._ended:
            return
        numbers = random.getstate(), np.random.get_state(), torch.get_rng_state()
        clip = torch.nn.utils.clip_grad_norm_  # the watched one listens to it
        self._gates[1 - number].release()
        self._gates[number].acquire()
        random.setstate(numbers[0])
        np.random.set_state(numbers[1])
        torch.set_rng_state(numbers[2])
        torch.nn.utils.clip_grad_norm_ = clip


class Clock(BaseCallback):
    """The thread's seconds in each piece; the turn of the other lies between two of them.

    Attributes:
        pieces: seconds, updates that SB3 counted, and rows of each.
    """

    def __init__(self, turns: Turns, number: int, piece: int, ours: RLWatchCallback | None) -> None:
        super().__init__()
        self.pieces: list[tuple[float, int, int]] = []
        self._turns, self._number, self._piece, self._ours = turns, number, piece, ours
        self._counts = (0, 0)
        self._began = 0.0

    def _on_step(self) -> bool:
        if self.num_timesteps % self._piece == 0:
            took = time.thread_time() - self._began
            watch = None if self._ours is None else self._ours.watch
            counts = (self.model._n_updates, 0 if watch is None else watch.rows)
            self.pieces.append((took, counts[0] - self._counts[0], counts[1] - self._counts[1]))
            self._counts = counts
            self._turns.over(self._number)
            self._began = time.thread_time()
        return True


def learn(turns: Turns, number: int, case: Case, pairs: int, ours: Any, found: list[Any]) -> None:
    """One of the two models; its pieces and what it has learnt go into `found`."""
    turns.begin(number)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            model = case.kind("MlpPolicy", case.env, seed=0, device="cpu")
        clock = Clock(turns, number, case.piece, ours)
        model.learn(case.first + pairs * case.piece, callback=[*([ours] if ours else []), clock])
        weights = torch.cat([each.detach().reshape(-1) for each in model.policy.parameters()])
        found[number] = (clock.pieces[case.first // case.piece :], weights)
    finally:
        turns.end(number)


def measure(case: Case, pairs: int, watched: bool, record: bool) -> Figures:
    """Let both learn."""
    gc.collect()
    gc.freeze()  # what torch and SB3 keep for good costs no collection its time
    turns, found = Turns(), [None, None]
    with tempfile.TemporaryDirectory() as folder:
        ours = RLWatchCallback(record=record, console=False, runs_dir=folder) if watched else None
        threads = [
            threading.Thread(target=learn, args=(turns, number, case, pairs, callback, found))
            for number, callback in enumerate((None, ours))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    (alone, weights), (beside, others) = found  # type: ignore[misc]
    if not torch.equal(weights, others):
        raise RuntimeError("the two did not learn the same: their times cannot be compared")
    return Figures(alone, beside)


class Figures:
    """The pieces of both models, by kind: those in which a row is judged, or PPO trains, are not like the others."""

    def __init__(self, alone: list[tuple[float, int, int]], beside: list[tuple[float, int, int]]) -> None:
        kinds: dict[tuple[int, int], list[tuple[float, float]]] = {}
        for (own, _, _), (theirs, updates, rows) in zip(alone, beside, strict=True):
            kinds.setdefault((updates, rows), []).append((own, theirs - own))
        self.pairs = len(alone)
        self.kinds = [np.array(each) for each in kinds.values()]
        self.alone, self.more = self._sums(self.kinds)

    @staticmethod
    def _sums(kinds: list[Any]) -> tuple[float, float]:
        """Seconds of all pieces alone, and more of them watched, each piece as the median of its kind has it."""
        alone, more = np.sum([len(each) * np.median(each, axis=0) for each in kinds], axis=0)
        return float(alone), float(more)

    def interval(self, times: int = 1000) -> tuple[float, float]:
        """The 95 % interval of the share by the bootstrap: pairs are drawn anew within their kind."""
        draw = np.random.default_rng(0).integers
        shares = []
        for _ in range(times):
            alone, more = self._sums([each[draw(0, len(each), len(each))] for each in self.kinds])
            shares.append(more / alone)
        low, high = np.percentile(shares, (2.5, 97.5))
        return float(low), float(high)
