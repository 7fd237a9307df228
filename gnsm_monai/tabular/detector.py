"""Anomalies in tables of categorical features, as a scikit-learn estimator with PyOD's conventions."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import erf
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from gnsm_monai.errors import InputError
from gnsm_monai.losses import LOSSES
from gnsm_monai.noise import NoiseSchedule, build_schedule
from gnsm_monai.rules.rule import rule_named
from gnsm_monai.scoring.rows import RowScorer
from gnsm_monai.tabular.encoder import TableEncoder
from gnsm_monai.tabular.row_rules import MAX_REFERENCES, row_rules
from gnsm_monai.tabular.training import TrainingPlan, own_random_numbers, train_network

__all__ = ["DEFAULT_NOISE", "GNSMDetector"]

DEFAULT_NOISE = {"betas": [0.1, 0.3, 0.5, 0.65, 0.8, 0.9, 0.97], "temperatures": [1.0] * 7}
"""From noise that leaves nearly all of a row readable to noise that leaves the marginals."""

SCORED_AT_ONCE = 20_000


class GNSMDetector(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Gumbel Noise Score Matching on tables of categorical features (arXiv 2304.03220).

    A network learns what a category of one feature goes with in the others, under noise that hides more and more of
    the row; a row's anomaly score is how badly it is explained over all levels of noise. Conventions are those of
    PyOD: scores are higher where a row is worse, ``predict`` gives 1 for an anomaly and 0 for an inlier.

    Args:
        contamination: share of anomalies among the training rows, in (0, 0.5]; it sets the threshold alone.
        noise: what :func:`gnsm_monai.noise.build_schedule` takes; ``None`` for :data:`DEFAULT_NOISE`.
        loss: ``posterior``, or ``kl`` and ``dsm`` for the published direct parametrisation.
        anomaly_score: a rule in :data:`gnsm_monai.tabular.row_rules.ROW_RULES`; ``auto`` is ``context_misfit`` for
            the loss ``posterior`` and the published ``score_norm_gmm`` for the others.
        numerical_features: positions of numerical columns; ``None`` finds floating-point columns with many values.
        bins: of numerical columns.
        width: units per layer of the network; ``None`` goes by the number of distinct rows.
        depth: its residual blocks.
        dropout: share of units left out in training.
        batch_size: rows per step.
        max_steps: optimiser steps; ``None`` goes by the number of distinct rows.
        learning_rate: highest one of the one-cycle plan.
        weight_decay: of AdamW.
        patience: validations, of twelve, without a better loss after which training ends.
        validation_fraction: share of rows held out to decide when to stop, in (0, 1).
        num_draws: noise draws per level that a row is scored with; 0 for the noise-free centre.
        device: of torch.
        random_state: seed or generator; equal seeds give equal detectors.

    Attributes:
        decision_scores_: scores of the training rows, ``(N,)``; higher = worse.
        threshold_: score above which a row is an anomaly.
        labels_: 1 for training rows above the threshold, 0 for the others, ``(N,)``.
        validation_loss_: per noise level on held-out rows, ``(L,)``, in nats per feature.
        n_features_in_, feature_names_in_: as in scikit-learn.

    X may be a pandas DataFrame (object, category, bool, string, numbers), an object array, or an array of integer
    codes. Every setting and value that cannot be used raises ``ValueError`` with one line.

    Example::

        detector = GNSMDetector(random_state=0).fit(train)
        worst = np.argsort(-detector.decision_function(new))[:10]
        reasons = detector.explain(new)[worst]
    """

    def __init__(
        self,
        *,
        contamination: float = 0.1,
        noise: str | Mapping[str, Any] | NoiseSchedule | None = None,
        loss: str = "posterior",
        anomaly_score: str = "auto",
        numerical_features: Sequence[int] | None = None,
        bins: int = 20,
        width: int | None = None,
        depth: int = 2,
        dropout: float = 0.0,
        batch_size: int = 512,
        max_steps: int | None = None,
        learning_rate: float = 0.005,
        weight_decay: float = 0.05,
        patience: int = 4,
        validation_fraction: float = 0.1,
        num_draws: int = 0,
        device: str = "cpu",
        random_state: Any = None,
    ) -> None:
        self.contamination, self.noise, self.loss, self.anomaly_score = contamination, noise, loss, anomaly_score
        self.numerical_features, self.bins = numerical_features, bins
        self.width, self.depth, self.dropout = width, depth, dropout
        self.batch_size, self.max_steps, self.learning_rate = batch_size, max_steps, learning_rate
        self.weight_decay, self.patience, self.validation_fraction = weight_decay, patience, validation_fraction
        self.num_draws, self.device, self.random_state = num_draws, device, random_state

    def fit(self, X: Any, y: Any = None) -> GNSMDetector:
        """Learns from the rows of ``X``, which may hold a few anomalies; ``y`` is not used.

        Raises:
            ValueError: a setting or a table that cannot be used.
        """
        self._check_settings()
        table = self._table(X, reset=True)
        generator = check_random_state(self.random_state)
        seed = int(generator.randint(2**31 - 1))
        self.encoder_ = TableEncoder(self.numerical_features, self.bins).fit(table)
        codes = self.encoder_.transform(table)
        # The same rows in another order are the same training set: which are held out goes by a seeded shuffle.
        order = np.random.default_rng(seed).permutation(len(codes))
        held_out = order[: max(1, int(self.validation_fraction * len(codes)))]
        train = np.setdiff1d(order, held_out)
        with tempfile.TemporaryDirectory() as folder, own_random_numbers():
            self._fit_codes(codes, train, held_out, seed, Path(folder))
        return self

    def _fit_codes(self, codes: np.ndarray, train: np.ndarray, held_out: np.ndarray, seed: int, folder: Path) -> None:
        schedule, cardinalities = self._schedule(), self.encoder_.cardinalities
        self.network_, self.validation_loss_ = train_network(
            codes[train], codes[held_out], cardinalities, schedule, self._plan(seed), folder
        )
        self.network_.cpu()
        rules = row_rules(LOSSES[self.loss])
        rule = rules[0] if self.anomaly_score == "auto" else rule_named(self.anomaly_score, rules)
        self.scorer_ = RowScorer(schedule, cardinalities, rule.statistic, LOSSES[self.loss], self.num_draws, seed)
        chosen = np.random.default_rng(seed).permutation(len(codes))[:MAX_REFERENCES]
        self.anomaly_model_ = rule.fit(self._statistics(codes[np.sort(chosen)]), seed=seed)
        self.decision_scores_ = self._scores(codes)
        self.threshold_ = float(np.quantile(self.decision_scores_, 1 - self.contamination))
        self.labels_ = (self.decision_scores_ > self.threshold_).astype(int)

    def decision_function(self, X: Any) -> np.ndarray:
        """Anomaly score of every row, ``(N,)`` float64; higher = worse. In nats for the rule ``context_misfit``."""
        return self._scores(self._codes(X))

    def predict(self, X: Any) -> np.ndarray:
        """1 for every row whose score is above ``threshold_``, 0 for the others, ``(N,)``."""
        labels: np.ndarray = (self.decision_function(X) > self.threshold_).astype(int)
        return labels

    def fit_predict(self, X: Any, y: Any = None) -> np.ndarray:
        """``labels_`` of the rows that the detector is fitted to."""
        return self.fit(X).labels_

    def predict_proba(self, X: Any, method: str = "linear") -> np.ndarray:
        """Probability of being an inlier and an anomaly, ``(N, 2)``, by PyOD's two rules; no calibrated frequencies.

        ``linear``: the score between the lowest and the highest one of training. ``unify``: ``erf`` of its z-score,
        0 where that is negative (Kriegel et al., SDM 2011).
        """
        if method not in ("linear", "unify"):
            raise ValueError(f"method: '{method}' is not one of linear, unify")
        scores, known = self.decision_function(X), self.decision_scores_
        if method == "linear":
            width = float(np.ptp(known))
            outlier = (scores - known.min()) / (width if width > 0 else 1.0)
        else:
            spread = float(known.std())
            outlier = erf((scores - known.mean()) / ((spread if spread > 0 else 1.0) * np.sqrt(2)))
        outlier = outlier.clip(0, 1)
        return np.stack([1 - outlier, outlier], axis=1)

    def explain(self, X: Any) -> np.ndarray:
        """What each feature adds to each row's score, ``(N, F)``; higher = worse: which field of the row is odd.

        For misfits the contributions add up to ``decision_function``. For the densities of the published score, which
        are of norms over all features, they are shares of the squared norm.
        """
        codes = self._codes(X)
        pieces = [self.anomaly_model_.contributions(self._statistics(piece)) for piece in _pieces(codes)]
        return np.concatenate(pieces)

    def _scores(self, codes: np.ndarray) -> np.ndarray:
        # Rows repeat in categorical tables: each is scored once.
        rows, inverse = np.unique(codes, axis=0, return_inverse=True)
        scores = [self.anomaly_model_.score(self._statistics(piece)) for piece in _pieces(rows)]
        return np.concatenate(scores)[inverse.reshape(-1)]

    def _statistics(self, codes: np.ndarray) -> np.ndarray:
        return self.scorer_(self.network_, codes)

    def _codes(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return self.encoder_.transform(self._table(X, reset=False))

    def _table(self, X: Any, reset: bool) -> Any:
        """A frame as it is, anything else as an array ``(N, F)`` of numbers or objects."""
        if hasattr(X, "iloc") and len(getattr(X, "shape", ())) == 2:
            if not X.shape[0] or not X.shape[1]:
                raise ValueError(
                    f"Found array with {X.shape[0]} sample(s) and {X.shape[1]} feature(s) (shape={X.shape}) "
                    "while a minimum of 1 is required."
                )
            if reset and len(X) < 2:
                raise ValueError("Found array with 1 sample(s) while a minimum of 2 is required.")
            # scikit-learn refuses names that occur twice; here a column is known by its place.
            unique = len(set(X.columns)) == X.shape[1]
            named = X if unique else np.empty(X.shape, dtype=np.int8)
            validate_data(self, named, reset=reset, skip_check_array=True)
            return X
        return validate_data(
            self, X, reset=reset, dtype=None, ensure_all_finite=False, ensure_min_samples=2 if reset else 1
        )

    def _schedule(self) -> NoiseSchedule:
        return build_schedule(DEFAULT_NOISE if self.noise is None else self.noise)

    def _plan(self, seed: int) -> TrainingPlan:
        return TrainingPlan(
            loss=self.loss,
            width=self.width,
            depth=self.depth,
            dropout=self.dropout,
            batch_size=self.batch_size,
            max_steps=self.max_steps,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            patience=self.patience,
            device=self.device,
            seed=seed,
        )

    def _check_settings(self) -> None:
        """Raises InputError, a ValueError, for what would fail after minutes of training."""
        if not 0 < self.contamination <= 0.5:
            raise InputError(f"contamination: must lie in (0, 0.5], got {self.contamination}")
        if not 0 < self.validation_fraction < 1:
            raise InputError(f"validation_fraction: must lie in (0, 1), got {self.validation_fraction}")
        if self.loss not in LOSSES:
            raise InputError(f"loss: '{self.loss}' is not one of {', '.join(LOSSES)}")
        known = ["auto", *(rule.name for rule in row_rules(LOSSES[self.loss]))]
        if self.anomaly_score not in known:
            names = ", ".join(known)
            raise InputError(f"anomaly_score: '{self.anomaly_score}' is not one of {names} (with loss {self.loss})")
        for name in ("bins", "depth", "batch_size", "learning_rate", "patience"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name}: must be a positive number, got {getattr(self, name)!r}")
        for name in ("max_steps", "width"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name}: must be a positive number or None, got {value!r}")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.estimator_type = "outlier_detector"
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags


def _pieces(codes: np.ndarray) -> list[np.ndarray]:
    return [codes[start : start + SCORED_AT_ONCE] for start in range(0, len(codes), SCORED_AT_ONCE)]
