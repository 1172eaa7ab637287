"""Alerts that are one failure together: what it is, which alert to fix first, and why."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from rlwatch.diagnosis.signs import SIGNS
from rlwatch.diagnosis.timing import Event


@dataclass(frozen=True, slots=True)
class Compound:
    """One row of the table.

    Attributes:
        name: what it is called in a record.
        needs: the signs (`signs.SIGNS`) that must all be there.
        title: the failure in a few words, a noun phrase.
        says: what happened, one or two plain sentences.
        because: the experience behind it, as the field's guides have it; shown as the reason.
        fixes: what to do, in order, before the fixes of the pages.
        first: detectors whose pages give the fixes that come next, in this order.
        link: the link that it blames, where that is known whatever spoke first; "" leaves it to the onset.
        harmful: topics (`fixes.TOPICS`) of fixes that do not help here, and are left out.
        in_order: whether the first of `needs` must not have begun after the last.
    """

    name: str
    needs: tuple[str, ...]
    title: str
    says: str
    because: str
    fixes: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    link: str = ""
    harmful: tuple[str, ...] = ()
    in_order: bool = False


_READ = "Read the completions of these steps, those with the highest reward first."

_REWARD = ("learning rate", "patience")
"""No help against a bad reward: a slower policy reaches the same exploit, later and at more cost."""

COMPOUNDS: tuple[Compound, ...] = (
    Compound(
        "spike_then_nonfinite", ("gradient_up", "nonfinite"), "a gradient spike that ended in NaN",
        "The gradient ran away first, and the loss became non-finite from it: one failure, and the spike is the cause.",
        "A gradient spike and a NaN that come together are read as one; the spike is what needs the fix.",
        fixes=("Go back to a checkpoint from before the spike, and check that its weights are finite.",),
        first=("gradient_spike", "loss_nonfinite"), link="numerics", in_order=True,
    ),
    Compound(
        "length_preference", ("reward_up", "gold_flat", "length_up"), "a length preference in the reward",
        "The reward rises, what it stands for does not, and the responses grow longer: the reward pays for length.",
        "A reward that length buys (a correlation above 0.6 is suspicious) goes up while the held-out score stays.",
        fixes=(
            _READ,
            "Add a length penalty, or compare rewards at equal length.",
            "Choose the checkpoint by the held-out score, not by the reward, and go back to that one.",
        ),
        first=("length_exploitation", "proxy_divergence", "reward_drift"), link="reward", harmful=_REWARD,
    ),
    Compound(
        "exploitation", ("reward_up", "side_shift", "gold_flat"), "exploitation of the reward",
        "The reward rises, the completions have changed their manner, and the real evaluation does not follow.",
        "Three things together make reward hacking: reward up, side metrics shifted, real evaluation down.",
        fixes=(_READ, "Repair the reward that the change in the completions points to."),
        first=("proxy_divergence", "side_metrics"), link="reward", harmful=_REWARD,
    ),
    Compound(
        "update_too_aggressive", ("reward_down", "kl_up", "clip_high"), "updates that are too aggressive",
        "The reward fell while KL rose and much of the batch was clipped: each update goes further than its data bear.",
        "KL, clip fraction and entropy are read together, since the reward is the last to show an update too large.",
        fixes=(
            "Go back to a checkpoint from before the reward fell.",
            "Lower the learning rate 2-5x.",
            "Use fewer inner epochs on each batch.",
            "Stop the epochs of an update at a target KL: approx_kl above 1.5x the target ends it.",
            "Check the advantage normalisation: a mean of 0, a standard deviation of 1, a floor under it.",
        ),
        first=("clip_fraction", "kl_explosion"), link="policy",
    ),
    Compound(
        "miscalibrated_proxy", ("beta_outrun",), "a KL that outruns its controller",
        "KL climbs although its coefficient rises: the policy finds reward faster than the penalty can hold it.",
        "A KL that climbs while beta rises means a miscalibrated proxy, and the advice is to stop early.",
        fixes=(_READ,), first=("kl_controller", "proxy_divergence"),
    ),
    Compound(
        "entropy_and_kl", ("entropy_down", "kl_up"), "entropy collapse with KL explosion",
        "Entropy fell and KL rose: the policy has narrowed to a few answers far from its reference. It is one failure.",
        "KL read alone misleads here; where entropy falls too it is a compound, and entropy is fixed first.",
        first=("entropy_collapse", "kl_explosion"),
    ),
    Compound(
        "policy_dissolves", ("entropy_up", "reward_down"), "a policy that comes apart",
        "Entropy rose and the reward fell with it: the policy is on its way to random text.",
        "Among the logs of real runs this is the commonest collapse: from some 0.2 nats to 2-8, and gibberish.",
        fixes=("Go back to a checkpoint from before entropy rose.",), first=("entropy_explosion", "kl_explosion"),
        link="exploration",
    ),
    Compound(
        "uniform_exploit", ("entropy_down", "reward_up", "side_shift"), "a policy that settled on an exploit",
        "Entropy fell, the reward rose and the completions changed their manner: they all do the same rewarded thing.",
        "Uniform output with a high reward is to be suspected of hacking until the completions say otherwise.",
        fixes=(_READ,), first=("side_metrics", "entropy_collapse"), link="reward",
    ),
    Compound(
        "nothing_left_to_learn", ("entropy_down", "reward_dead"), "a collapsed policy with tied rewards",
        "Entropy collapsed and the rewards no longer differ: the samples agree, and no gradient is left to undo it.",
        "All samples of a group that agree give a group-relative advantage of 0, so it does not come back by itself.",
        fixes=("Go back to a checkpoint from before entropy fell.",), first=("entropy_collapse", "reward_degenerate"),
    ),
    Compound(
        "dead_reward_no_update", ("reward_dead", "frozen"), "a reward with nothing to learn from",
        "The rewards do not differ and the weights do not move: the update is idle because the reward is.",
        "Diagnose from the outside in: before the optimizer, the environment, the prompts and the reward are checked.",
        first=("reward_degenerate", "frozen_weights"), link="reward", harmful=_REWARD,
    ),
    Compound(
        "advantage_follows_reward", ("reward_split", "advantage_up"), "advantages that follow the rewards",
        "The spread of the rewards grew, and the advantages with it: the cause is in the reward.",
        "Some samples found an exploit and others did not; a slower policy would reach the same one, only later.",
        fixes=(_READ,), first=("reward_variance_explosion", "reward_bimodality", "advantage_spike"), link="reward",
        harmful=_REWARD,
    ),
    Compound(
        "broken_critic", ("critic_bad", "advantage_up"), "a broken critic",
        "The critic does not predict the returns and the advantages spread out: updates have no sound baseline.",
        "A baseline that is no use makes the signs of the updates inconsistent; the test is a critic trained alone.",
        first=("value_failure", "advantage_spike"), link="critic",
    ),
    Compound(
        "critic_left_behind", ("critic_bad", "imbalance"), "a critic that cannot keep up",
        "The critic does not predict the returns, and policy and critic move out of step.",
        "The size of the policy's step against the critic's has a healthy level; the critic often needs 2-5x the rate.",
        first=("update_imbalance", "value_failure"), link="critic",
    ),
    Compound(
        "advantage_then_gradient", ("advantage_up", "gradient_up"), "a gradient that follows the advantages",
        "The advantages spread out and the gradient norm rose with them: the training signal is what grew.",
        "A spread of the advantages may come before gradient trouble, so it is fixed upstream.",
        first=("advantage_spike", "gradient_spike"), link="advantage", in_order=True,
    ),
    Compound(
        "slow_and_stale", ("slow", "stale"), "slow parts that make the data stale",
        "The steps became slower and the rollouts older: what is slow feeds old data to the update.",
        "A fall in throughput, waiting workers or a slow reward model show first as time, then as stale data.",
        first=("throughput", "staleness"), link="system",
    ),
    Compound(
        "wrong_policy_kl", ("mismatch", "kl_up"), "rollouts that are not the policy's own",
        "Trainer and inference engine disagree while KL rises: the update is for a policy that did not sample.",
        "Ask which version made each rollout, and whether the old log-probabilities are those of the sampler.",
        first=("rollout_mismatch", "kl_explosion"), link="freshness",
    ),
    Compound(
        "stale_kl", ("stale", "kl_up"), "stale rollouts that push the policy away",
        "The rollouts grow old while KL rises: the policy is trained on what an older one did.",
        "How many updates old the data is decides how far the ratio strays; asynchronous agents suffer most.",
        first=("staleness", "kl_explosion"), link="freshness",
    ),
    Compound(
        "kl_and_clip", ("kl_up", "clip_high"), "updates that are too large",
        "KL rises and much of the batch is clipped; the reward, which is the last to show it, may follow.",
        "A KL above 2x its target ends the update; a clip fraction above 0.4 asks for a lower rate or fewer epochs.",
        fixes=("Lower the learning rate 2-5x.", "Use fewer inner epochs on each batch."),
        first=("clip_fraction", "kl_explosion"), link="policy",
    ),
    Compound(
        "runaway_length", ("length_up", "reward_down"), "a length that runs away",
        "The responses grow longer while the reward falls: answers ramble, or are cut at the cap and earn nothing.",
        "Lengths of failed runs grew to 1.4-6.2x, mostly up to the cap; those of healthy runs stayed below 1.28x.",
        fixes=("Go back to a checkpoint from before the length rose.",), first=("length_exploitation",),
    ),
)  # fmt: skip


def matching(events: Mapping[str, Sequence[Event]]) -> list[Compound]:
    """The compounds whose signs are all in `events` (sign -> events), without those that a fuller one contains."""
    found = [compound for compound in COMPOUNDS if _holds(compound, events)]
    return [one for one in found if not any(set(one.needs) < set(other.needs) for other in found)]


def suspected(events: Mapping[str, Sequence[Event]], blind: Collection[str]) -> list[tuple[Compound, str]]:
    """Compounds of three signs with one missing, and that sign, where the detector that watches it is in `blind`."""
    found = []
    for compound in COMPOUNDS:
        missing = [name for name in compound.needs if name not in events]
        if len(compound.needs) >= 3 and len(missing) == 1 and SIGNS[missing[0]].detector in blind:
            found.append((compound, missing[0]))
    return found


def _holds(compound: Compound, events: Mapping[str, Sequence[Event]]) -> bool:
    if not all(name in events for name in compound.needs):
        return False
    if not compound.in_order:
        return True
    cause, effect = (events[name] for name in (compound.needs[0], compound.needs[-1]))
    return min(event.earliest for event in cause) <= min(event.latest for event in effect)
