"""Which rule is taken where none is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from gnsm_monai.rules.choice import STRENGTHS, simplest_of_the_best, steadiest, weakest_within
from gnsm_monai.rules.fit_data import Compared, FitData
from gnsm_monai.rules.rule import Rule
from gnsm_monai.rules.rules import Combined

__all__ = ["rule_taken"]

UNFITTED = "deviation"
"""The rule that is fitted to references alone."""


def rule_taken(fitted: Mapping[str, Rule], held_out: Mapping[str, np.ndarray], data: FitData) -> str:
    """Name of the rule that is taken without being asked for, by what each says of the masks that are compared on.

    That is the one of :func:`simplest_of_the_best`, and no combination of statistics: on masks of networks these rank
    better over all folders, and worse within most (docs/notebook.md). From labels alone there may be nothing for a
    single statistic to lean on: the network learnt no context, or no rule follows Dice fairly on failures, so that the
    best one is that of chance. Then it is the combination without the network that is :func:`steadiest` over the
    makers of failures, unless the simplest rule without it is steadier by more than a standard error.

    Args:
        fitted: the rules by name, the simplest first.
        held_out: what each says of the masks of ``data.compared``, ``(n,)``; see :meth:`Rule.held_out`.
        data: what the rules are fitted to and compared on.
    """
    names = _candidates(fitted, data)
    combined = [name for name in names if isinstance(fitted[name], Combined)]
    single = [name for name in names if name not in combined]
    sees_images = any(rule.needs_images for rule in fitted.values())
    leans = data.context and _followed(single, held_out, data.compared)
    if leans or sees_images or data.num_empty is not None:
        combined = []
    if combined:
        combined, single = ([name for name in group if not fitted[name].asks_network] for group in (combined, single))
    if data.num_empty is not None and not sees_images:
        single = _unfitted_or_best(single, held_out, data.compared)
    simplest = _simplest(single, held_out, data)
    if not combined:
        return simplest
    makers = np.where(data.judges, "network", "copy") if data.makers is None else data.makers
    (name, worst, copies), (_, value, resampled) = (
        steadiest({name: held_out[name] for name in group}, data.dice, makers, data.source_patients, data.seed)
        for group in (combined, [simplest])
    )
    return simplest if worst - value > (resampled - copies).std(ddof=1) else name


def _followed(names: Sequence[str], held_out: Mapping[str, np.ndarray], masks: Compared) -> bool:
    """Whether one of these rules follows Dice fairly, in the words of :func:`strength`."""
    best = min(weakest_within(held_out[name], masks.dice, masks.parts) for name in names)
    return best <= -dict(STRENGTHS)["fair"]


def _simplest(names: Sequence[str], held_out: Mapping[str, np.ndarray], data: FitData) -> str:
    """The :func:`simplest_of_the_best` of these rules on the masks that judge."""
    masks = data.compared
    judges = masks.judges
    parts = [part[judges] for part in masks.parts]
    scores = {name: held_out[name][judges] for name in names}
    return simplest_of_the_best(
        scores, masks.dice[judges], data.seed, masks.patients[judges], parts, masks.of_empty[judges]
    )


def _unfitted_or_best(names: Sequence[str], held_out: Mapping[str, np.ndarray], masks: Compared) -> list[str]:
    """Names of the two rules that are asked for where no image tells a structure, and some references have none.

    Few references hold structures there, and the simplest rules, of the shape and of overlap, are blind to a structure
    too many. :data:`UNFITTED` asks how unusual a mask is in any respect, whatever the failures are like: it is taken
    unless the best rule is better by more than a standard error.
    """
    best = min(names, key=lambda name: weakest_within(held_out[name], masks.dice, masks.parts))
    return [*(name for name in names if name == UNFITTED), best]


def _candidates(fitted: Mapping[str, Rule], data: FitData) -> list[str]:
    """Names of the rules that may be taken without being asked for, those to be preferred first."""
    # A regression only where there are masks of networks, of several references, to fit it to. What is fitted to
    # degraded copies, and not only compared on them, learns how copies are made: on masks of real networks it
    # ranks worse than the mean that it beats on copies (docs/benchmarks).
    learn = data.judged_by_networks and len(np.unique(data.source_patients[data.judges])) > 1
    names = [name for name, rule in fitted.items() if learn or not rule.learns_dice]
    # A network that sees images is there to read them: labels alone cannot tell whose mask this is. `shape` sees
    # the mask alone and is taken only if no rule that asks the network is as good.
    if any(rule.needs_images for rule in fitted.values()):
        names.sort(key=lambda name: not fitted[name].asks_network)
    return names
