"""The callback that puts rlwatch into a Stable-Baselines3 model."""

from __future__ import annotations

import logging
import weakref
from typing import Any

import stable_baselines3
from stable_baselines3.common.callbacks import BaseCallback, EventCallback

from rlwatch.adapters.sb3.algorithms import TESTED, algorithm_of, hints_for, lost
from rlwatch.adapters.sb3.saved import ATTRIBUTE, ROLLBACK, Saved, state_of
from rlwatch.adapters.sb3.session import Session
from rlwatch.config import load_settings
from rlwatch.guest import Guest
from rlwatch.responses.remedy import Pharmacy
from rlwatch.watch import Watch

logger = logging.getLogger("rlwatch")


class RLWatchCallback(BaseCallback):
    """Watches every update of a Stable-Baselines3 model: `model.learn(..., callback=RLWatchCallback())`.

    | what | where it comes from |
    |---|---|
    | losses, entropy (sign turned), approx_kl, ... | the logger, right after the `train()` that they tell of |
    | gradient norms before clipping, the entropy of SAC | hooks on the optimizers' steps |
    | advantages, values, returns | the rollout buffer (PPO, A2C) |
    | episode rewards and lengths | `ep_info_buffer`: the episodes that ended since the last row |
    | how far policy, critic and all weights moved | the weights, once a row |

    A row is one `train()` of PPO; A2C, DQN, SAC and TD3, which make one gradient step at a time, give a row for every
    100. Its step is SB3's `total_timesteps`. Training is the same bit for bit with and without the callback, as long as
    nothing breaks. An update with a non-finite gradient never reaches the weights; a halt stops training at the next
    step of the environment. With `on_critical="rollback"` a critical takes the model back to its last healthy state and
    a remedy is applied (learning rate, clip range, epochs, entropy bonus, gradient clipping); the environments go on.
    `model.save` takes the detectors' state along, and `learn(reset_num_timesteps=False)` goes on with it.

    Args:
        preset, on_critical, **settings: as for `rlwatch.Watch`; the preset is `classic` unless one is given.
        watch: an existing Watch to use instead; it is neither closed nor replaced here.
        remedies: the user's own: a function `(context) -> str | None` that changes something and says what
            (`rlwatch.responses.cures.Context`), or a dict detector -> function.
        every: gradient steps that a row is the mean of (PPO: epochs); None: as described.

    Attributes:
        watch: the Watch, from the beginning of training on; None before.
        halted: whether rlwatch stopped the last `learn()`: leave the script with `sys.exit(rlwatch.EXIT_HALTED)` then.
        withheld: updates of the last `learn()` that were kept from the weights.

    Raises:
        ConfigError: a setting is unknown or out of range.
        ValueError: a remedy is no function. Nothing raises after construction, unless `strict`.
    """

    def __init__(
        self,
        preset: str | None = None,
        on_critical: str | None = None,
        *,
        watch: Watch | None = None,
        remedies: Any = None,
        every: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        Pharmacy(remedies)
        given = {"preset": preset, "on_critical": on_critical, **settings}
        self._settings = {name: value for name, value in given.items() if value is not None}
        if watch is not None and self._settings:
            raise ValueError("give RLWatchCallback either watch= or settings, not both")
        known = load_settings(**self._settings) if watch is None else watch.settings
        if known.preset is None:
            self._settings["preset"] = "classic"
        self._guest = Guest(known.strict)
        self._given = watch
        self.watch: Watch | None = watch
        self.halted = False
        self._remedies = remedies
        self._every = every
        self._session: Session | None = None

    # SB3's events

    def update_locals(self, locals_: dict[str, Any]) -> None:
        """Nothing: SB3 gives its variables at every step, none is used here, and keeping them costs time."""

    def _on_training_start(self) -> None:
        self._end_session()  # of a `learn()` that ended in an exception
        self._session, self.halted = None, False
        self._guest.attempt("attaching", self._start)

    def _on_rollout_start(self) -> None:
        if self._session is not None:
            self._guest.attempt("the judgement of a row", self._session.trained)

    def _on_rollout_end(self) -> None:
        if self._session is not None:
            self._guest.attempt("the end of a rollout", self._session.rollout_ended)

    def _on_step(self) -> bool:
        return self._session is None or not self._session.halt

    def _on_training_end(self) -> None:
        if self._session is not None:
            self._guest.attempt("the judgement of a row", self._session.trained)
            self.halted = self._session.halt
        self._end_session()
        if self.watch is not None and self._given is None:
            self.watch.close()

    # A run

    @property
    def withheld(self) -> int:
        """Updates that were kept from the weights."""
        return 0 if self._session is None else self._session.gradients.withheld

    def _start(self) -> None:
        model: Any = self.model
        known = algorithm_of(model, self._every)
        saved = state_of(model) if model.num_timesteps else {}
        watch = self._given or Watch(**self._settings)
        self.watch = watch
        if saved and not watch.rows:
            watch.load_state_dict(saved)
        watch.hints.update(hints_for(model, known))
        watch.info["trainer"] = known.name
        alive = weakref.ref(model)
        watch.trackers["tensorboard"] = lambda: _tensorboard_of(alive())
        watch.info["stable_baselines3"] = stable_baselines3.__version__
        for sentence in self._obstacles(known, watch):
            logger.warning("rlwatch: %s", sentence)
        self._session = session = Session(model, known, watch, self._guest, self._remedies)
        if session.going_back is not None and ROLLBACK in saved:
            session.going_back.resumed(saved[ROLLBACK])
        setattr(model, ATTRIBUTE, Saved(session.export))

    def _obstacles(self, known: Any, watch: Watch) -> list[str]:
        found = lost(self.model, known)
        if not stable_baselines3.__version__.startswith(f"{TESTED}."):
            found.append(f"tested with stable-baselines3 {TESTED}, this is {stable_baselines3.__version__}")
        if isinstance(self.parent, EventCallback):
            found.append(
                f"inside of {type(self.parent).__name__} it hears of no rollouts and judges nothing: "
                "give it to learn() itself, callback=[RLWatchCallback(), ...]"
            )
        if watch.settings.on_critical == "skip":
            found.append("on_critical='skip' does nothing here: SB3 has made a row's updates when it is judged")
        return found

    def _end_session(self) -> None:
        if self._session is not None:
            self._session.end()


def _tensorboard_of(model: Any) -> Any:
    """The writer of the model's logger, with `tensorboard_log`; None without one."""
    outputs = getattr(getattr(model, "_logger", None), "output_formats", ())
    return next((one.writer for one in outputs if type(one).__name__ == "TensorBoardOutputFormat"), None)
