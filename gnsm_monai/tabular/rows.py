"""What the score network says of every feature of every row of a table, at each noise level."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor

from gnsm_monai.networks import ContextMisfit, ScoreMLP, score_from_logits
from gnsm_monai.noise import gumbel_noise, relax
from gnsm_monai.noise.gumbel import CLASS_DIM

__all__ = ["ROW_STATISTICS", "RowScorer", "distinct_rows", "one_thread"]

ROW_STATISTICS = {"context_misfit": "posterior", "misfit": "posterior", "score_norm": ""}
"""Statistics of a feature at a level, each higher = worse, and the parametrisation that each needs, if any.

- ``context_misfit``: ``-log P(c_f | x_others)`` in nats: how improbable the category is given the noisy values of the
  row's OTHER features. At the weakest noise the terms of the row's pseudo-likelihood; at the strongest those of the
  marginal one.
- ``misfit``: ``-log P(c_f | x)`` in nats, given the feature's own noisy value too.
- ``score_norm``: ``|| s_f ||_2``, the norm of the score.
"""


CACHED_VALUES = 300_000
"""Logits that are worked on at a time: what stays in the cache of a core is several times as fast."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Operations of torch inside run on one thread each.

    Those of a table are too small to be shared out: on a core that has other work, two threads wait for each other at
    every one of them, and scoring took twenty times as long.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def distinct_rows(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row of ``(N, F)`` once, in an order that theirs does not matter to, and for each of the ``N`` its place.

    Rows repeat in tables of categories. A dictionary of their bytes takes a tenth of the time of ``np.unique``.
    """
    rows = np.ascontiguousarray(codes)
    keys = rows.view(np.dtype((np.void, rows[:1].nbytes))).ravel().tolist()
    places = {key: place for place, key in enumerate(sorted(set(keys)))}
    index = np.fromiter(map(places.__getitem__, keys), np.int64, len(keys))
    return np.frombuffer(bytearray().join(places), rows.dtype).reshape(-1, rows.shape[1]), index


class RowScorer:
    """Statistics of rows at the noise-free centre of each level, or as means over draws of the noise.

    Rows are independent of each other: a row's statistics depend neither on its neighbours nor on the size of pieces.
    Draws are the same random numbers for every row.

    Args:
        network: in eval mode.
        statistic: name in :data:`ROW_STATISTICS`.
        num_draws: noise draws per level to average over; 0 for the noise-free centre.
        seed: of the draws.
        max_values: numbers per piece that the network sees at once, which bounds the memory.

    Raises:
        ValueError: a statistic that is not known or that the network's parametrisation does not give.
    """

    def __init__(
        self,
        network: ScoreMLP,
        statistic: str = "context_misfit",
        num_draws: int = 0,
        seed: int = 0,
        max_values: int = 1_000_000,
    ) -> None:
        self.parametrisation = "posterior" if network.posterior else "direct"
        if ROW_STATISTICS.get(statistic, "unknown") not in ("", self.parametrisation):
            raise ValueError(f"no statistic '{statistic}' of {self.parametrisation} logits")
        self.network, self.schedule, self.blocks = network, network.schedule, network.blocks
        self.statistic, self.num_draws, self.seed = statistic, num_draws, seed
        self.chunk = max(1, max_values // (self.schedule.num_levels * self.blocks.size))

    @torch.inference_mode()
    def __call__(self, codes: np.ndarray, inferer: Inferer | None = None) -> np.ndarray:
        """Statistic ``(N, L, F)`` float32 of category codes ``(N, F)``; by default the inferer is ``SimpleInferer``."""
        inferer, network = inferer or SimpleInferer(), self.network
        device = next(network.parameters()).device
        rows = torch.from_numpy(np.ascontiguousarray(codes))
        out = np.empty((len(rows), self.schedule.num_levels, self.blocks.num_features), dtype=np.float32)
        if self.statistic == "context_misfit" and not self.num_draws and isinstance(network, ScoreMLP):
            return self._noise_free_context(inferer, rows, out, device)
        for start in range(0, len(rows), self.chunk):
            piece = rows[start : start + self.chunk].to(device, torch.int64)
            run = partial(inferer, network=network)
            draws = [self._piece(run, piece, draw) for draw in range(max(1, self.num_draws))]
            out[start : start + self.chunk] = torch.stack(draws).mean(0).cpu().numpy()
        return out

    def _noise_free_context(self, inferer: Inferer, rows: Tensor, out: np.ndarray, device: torch.device) -> np.ndarray:
        """What :meth:`_piece` and :meth:`_features` find for that statistic, without relaxed rows, level by level."""
        chunk = max(1, min(self.chunk * self.schedule.num_levels, CACHED_VALUES // self.blocks.size))

        @torch.inference_mode()
        def work(level: int, misfit: ContextMisfit, starts: Iterator[int]) -> None:
            scratch = torch.empty(min(chunk, len(rows)), self.blocks.size, device=device)
            for start in starts:  # which all threads draw from
                piece = rows[start : start + chunk].to(device, torch.int64)
                terms = inferer(piece, network=partial(misfit, scratch=scratch))
                out[start : start + chunk, level] = terms.cpu().numpy()

        workers = torch.get_num_threads() if device.type == "cpu" else 1
        with one_thread(), ThreadPoolExecutor(workers) as pool:
            for level in range(self.schedule.num_levels):
                run = partial(work, level, ContextMisfit(self.network, level))
                list(pool.map(run, [iter(range(0, len(rows), chunk))] * workers))
        return out

    def _piece(self, run: Callable[..., Tensor], codes: Tensor, draw: int) -> Tensor:
        """Statistic ``(B, L, F)``, all levels in one batch."""
        levels = self.schedule.num_levels
        level = torch.arange(levels, device=codes.device).repeat(len(codes))
        repeated = codes.repeat_interleave(levels, 0)
        generator = torch.Generator().manual_seed(self.seed + draw)

        def noisy(block: Tensor) -> Tensor:
            if not self.num_draws:
                return self.schedule.noise_free(block, level)
            # One draw per level, on the CPU, for all rows.
            noise = gumbel_noise(torch.empty(levels, *block.shape[1:]), generator).to(block.device)
            noise = noise.repeat(len(codes), 1, 1)
            return relax(self.schedule.log_alpha(block, level), self.schedule.temperature(level), noise)

        x = self.blocks.apply(noisy, self.blocks.one_hot(repeated))
        return self._features(run(x, level=level), x, level, repeated).reshape(len(codes), levels, -1)

    def _features(self, logits: Tensor, x: Tensor, level: Tensor, codes: Tensor) -> Tensor:
        if self.statistic == "score_norm":
            pieces = zip(self.blocks.split(logits), self.blocks.split(x), strict=True)
            scores = [score_from_logits(self.parametrisation, f, noisy, level, self.schedule) for f, noisy in pieces]
            return self.blocks.features([score.norm(dim=CLASS_DIM) for score in scores])
        if self.statistic == "context_misfit":
            # Noise is independent between features given the row: P(c | x) ~ P(c | x_others) p(x_f | c). What the
            # feature says of itself is taken off its posterior again (Bayes).
            logits = logits - self.blocks.apply(lambda block: self.schedule.log_likelihood(block, level), x)
        return -self.blocks.at_codes(self.blocks.apply(lambda block: F.log_softmax(block, CLASS_DIM), logits), codes)
