"""Row statistics against a table of probabilities small enough to enumerate."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from gnsm_monai.networks import ScoreMLP
from gnsm_monai.noise import FeatureBlocks, NoiseSchedule, mixing_schedule
from gnsm_monai.rules.rule import rule_named
from gnsm_monai.tabular import rows
from gnsm_monai.tabular.row_rules import ROW_RULES
from gnsm_monai.tabular.rows import RowScorer, distinct_rows

CARDINALITIES = [2, 3]
ROWS = np.array(list(itertools.product(range(2), range(3))))
JOINT = np.array([0.30, 0.10, 0.05, 0.05, 0.15, 0.35])
SCHEDULE = NoiseSchedule((1e-4, 0.5, 1.0), (1.0, 1.0, 1.0))


class Exact(nn.Module):
    """Posterior logits of :data:`JOINT` by enumeration of all rows."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule, self.posterior = SCHEDULE, True
        self.blocks, self.unused = FeatureBlocks(CARDINALITIES), nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        evidence = [SCHEDULE.log_likelihood(block.double(), level)[..., 0] for block in self.blocks.split(x)]
        rows = torch.from_numpy(ROWS)
        log_joint = torch.from_numpy(JOINT).log() + evidence[0][:, rows[:, 0]] + evidence[1][:, rows[:, 1]]
        logits = [
            torch.stack([log_joint[:, rows[:, f] == c].logsumexp(1) for c in range(k)], 1)
            for f, k in enumerate(CARDINALITIES)
        ]
        return torch.cat(logits, 1)


def scorer(network: nn.Module, *statistic: str, **options: int) -> RowScorer:
    return RowScorer(network, *statistic, **options)  # type: ignore[arg-type]


def table() -> np.ndarray:
    return JOINT.reshape(2, 3)


def test_contextual_misfit_goes_from_conditionals_to_marginals() -> None:
    found = scorer(Exact())(ROWS)
    conditional = np.stack([table() / table().sum(0), table() / table().sum(1, keepdims=True)], -1).reshape(6, 2)
    marginal = np.stack([table().sum(1)[ROWS[:, 0]], table().sum(0)[ROWS[:, 1]]], 1)
    assert np.allclose(found[:, 0], -np.log(conditional), atol=2e-3)
    assert np.allclose(found[:, 2], -np.log(marginal), atol=1e-5)


def test_misfit_knows_the_features_own_value() -> None:
    own = scorer(Exact(), "misfit")(ROWS)
    assert own[:, 0].max() < 2e-3  # hardly any noise: what is seen is believed
    assert np.allclose(own[:, 2], scorer(Exact())(ROWS)[:, 2], atol=1e-5)


def test_the_mean_over_levels_of_erasing_noise_is_the_rows_log_probability() -> None:
    # Two features: at a share b of hidden ones E = b * marginal + (1 - b) * conditional; the integral over b is exact.
    levels = scorer(Exact())(ROWS)[:, [0, 2]]
    model = rule_named("context_misfit", ROW_RULES).fit(levels, ROWS)
    assert np.allclose(model.score(levels, ROWS), -np.log(JOINT), atol=4e-3)
    assert np.allclose(model.parts(levels, ROWS).sum((1, 2)), model.score(levels, ROWS))


def test_neither_pieces_nor_order_change_a_row() -> None:
    whole = scorer(Exact(), num_draws=3, seed=5)(ROWS)
    small = scorer(Exact(), num_draws=3, seed=5, max_values=20)(ROWS[::-1].copy())
    assert np.array_equal(whole, small[::-1])
    assert not np.array_equal(whole, scorer(Exact(), num_draws=3, seed=6)(ROWS))


class Relaxed(nn.Module):
    """The network as nothing but a function of relaxed rows."""

    def __init__(self, network: ScoreMLP) -> None:
        super().__init__()
        self.network, self.schedule, self.blocks, self.posterior = network, network.schedule, network.blocks, True

    def forward(self, x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.network(x, level)
        return found


@pytest.mark.parametrize("max_values", [20, 4_000_000])
def test_rows_of_known_categories_are_scored_as_relaxed_rows_are(max_values: int) -> None:
    schedule = mixing_schedule(3)
    network = ScoreMLP(CARDINALITIES, schedule, width=16, depth=2).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    found = [scorer(own, max_values=max_values)(ROWS) for own in (network, Relaxed(network))]
    assert np.allclose(*found, atol=1e-4)


def test_score_norm_of_a_fully_hidden_row_is_that_of_no_preference() -> None:
    # At beta 1 the noise-free centre is uniform: every class weight is 1/K, and the score vanishes.
    norms = scorer(Exact(), "score_norm")(ROWS)
    assert np.allclose(norms[:, 2], 0, atol=1e-5) and (norms[:, 1] > 0).all()


def test_statistics_that_logits_do_not_give_are_refused() -> None:
    for statistic, posterior in (("misfit", False), ("unheard", True)):
        with pytest.raises(ValueError, match=f"no statistic '{statistic}'"):
            RowScorer(ScoreMLP(CARDINALITIES, SCHEDULE, posterior=posterior), statistic)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_share_rows_out_and_change_no_score(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network = ScoreMLP(CARDINALITIES, SCHEDULE, width=16, depth=2).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    codes = np.tile(ROWS, (7, 1))
    expected = scorer(Relaxed(network))(codes)
    monkeypatch.setattr(rows, "CACHED_VALUES", 20)  # four rows at a time
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert np.allclose(scorer(network)(codes), expected, atol=1e-4)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("kind", [np.uint8, np.int16])
def test_distinct_rows_are_those_of_numpy(kind: type) -> None:
    codes = np.random.default_rng(0).integers(0, 4, (200, 3)).astype(kind)[:, ::-1]  # in another order of memory
    rows, index = distinct_rows(codes)
    assert np.array_equal(rows[index], codes) and rows.dtype == kind
    assert np.array_equal(np.unique(rows, axis=0), np.unique(codes, axis=0)) and len(rows) == len(
        np.unique(rows, axis=0)
    )
    assert np.array_equal(distinct_rows(codes[::-1])[0], rows)
