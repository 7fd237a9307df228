"""Anomalies in tables of categorical features, as a scikit-learn estimator with PyOD's conventions."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import narwhals as nw
import numpy as np
from scipy.special import erf
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from gnsm_monai.losses import LOSSES
from gnsm_monai.noise import NoiseSchedule, build_schedule
from gnsm_monai.tabular.batches import TrainingTable
from gnsm_monai.tabular.encoder import TableEncoder, is_frame
from gnsm_monai.tabular.model import TrainedTable
from gnsm_monai.tabular.options import check_options
from gnsm_monai.tabular.row_rules import MAX_REFERENCES, choose_rule
from gnsm_monai.tabular.training import TrainingPlan, own_random_numbers, train_network
from gnsm_monai.tabular.trimming import trimmed

__all__ = ["DEFAULT_NOISE", "GNSMDetector"]

DEFAULT_NOISE = {"betas": [0.1, 0.3, 0.5, 0.65, 0.8, 0.9, 0.97], "temperatures": [1.0] * 7}
"""From noise that leaves nearly all of a row readable to noise that leaves the marginals."""

PLANNED = [field.name for field in fields(TrainingPlan) if field.name != "seed"]


class GNSMDetector(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Gumbel Noise Score Matching on tables of categorical features (arXiv 2304.03220).

    A network learns what a category of one feature goes with in the others, under noise that hides more and more of
    the row; a row's anomaly score is how badly it is explained over all levels of noise. Conventions are those of
    PyOD: scores are higher where a row is worse, ``predict`` gives 1 for an anomaly and 0 for an inlier.

    Args:
        contamination: share of anomalies among the training rows, in (0, 0.5]; it sets the threshold alone.
        trim: share of the training rows, in (0, 0.5], that is left out as anomalies after a first fit
            (:func:`gnsm_monai.tabular.trimming.trimmed`); those stay in ``decision_scores_`` and ``labels_``.
        noise: what :func:`gnsm_monai.noise.build_schedule` takes; ``None`` for :data:`DEFAULT_NOISE`.
        objective: ``posterior``, or ``kl`` and ``dsm`` for the published direct parametrisation.
        anomaly_score: a rule in :data:`gnsm_monai.tabular.row_rules.ROW_RULES`; ``auto`` is ``coupled_misfit`` for
            the objective ``posterior`` and the published ``score_norm_gmm`` for the others.
        numerical_features: positions of numerical columns; ``None`` finds floating-point columns with many values.
        bins: of numerical columns.
        width: units per layer of the network; ``None`` goes by the numbers of distinct rows and of categories.
        depth: its residual blocks.
        dropout: share of units left out in training.
        batch_size: rows per step.
        max_steps: most optimiser steps; ``None`` goes by the number of distinct rows. Training ends earlier if the loss
            on held-out rows gains no more (:class:`gnsm_monai.tabular.annealing.Annealing`).
        learning_rate: highest one.
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

    X may be a data frame of pandas, polars or pyarrow (object, category, bool, string, numbers), an object array, or an
    array of integer codes. Every setting and value that cannot be used raises ``ValueError`` with one line.

    Example::

        detector = GNSMDetector(random_state=0).fit(train)
        worst = np.argsort(-detector.decision_function(new))[:10]
        reasons = detector.explain(new)[worst]
    """

    # One argument per setting, many as they are: scikit-learn's clone, get_params and searches go by these names.
    def __init__(
        self,
        *,
        contamination: float = 0.1,
        trim: float | None = None,
        noise: str | Mapping[str, Any] | NoiseSchedule | None = None,
        objective: str = "posterior",
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
        self.contamination, self.trim, self.noise, self.objective = contamination, trim, noise, objective
        self.anomaly_score, self.numerical_features, self.bins = anomaly_score, numerical_features, bins
        self.width, self.depth, self.dropout = width, depth, dropout
        self.batch_size, self.max_steps, self.learning_rate = batch_size, max_steps, learning_rate
        self.weight_decay, self.patience, self.validation_fraction = weight_decay, patience, validation_fraction
        self.num_draws, self.device, self.random_state = num_draws, device, random_state

    def fit(self, X: Any, y: Any = None) -> GNSMDetector:
        """Learns from the rows of ``X``, which may hold a few anomalies; ``y`` is not used.

        Raises:
            ValueError: a setting or a table that cannot be used.
        """
        check_options(self.get_params(deep=False))
        table = self._table(X, reset=True)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        schedule = build_schedule(DEFAULT_NOISE if self.noise is None else self.noise)
        self.encoder_ = TableEncoder(self.numerical_features, self.bins).fit(table)
        codes = self.encoder_.transform(table)
        # The same rows in another order are the same training set: which are held out goes by a seeded shuffle.
        order = np.random.default_rng(seed).permutation(len(codes))
        held_out = order[: max(1, int(self.validation_fraction * len(codes)))]
        train = np.setdiff1d(order, held_out)
        rows = TrainingTable(self.encoder_, {"train": codes[train], "validation": codes[held_out]})
        plan = TrainingPlan(seed=seed, **{name: getattr(self, name) for name in PLANNED})
        rule = choose_rule(self.anomaly_score, LOSSES[self.objective])
        with tempfile.TemporaryDirectory() as folder, own_random_numbers():
            fitted = trimmed(rows, schedule, plan, rule, self.trim)
            network, self.validation_loss_ = train_network(fitted, schedule, plan, folder)
            normal = fitted.codes["train"][:MAX_REFERENCES] if self.trim else codes[np.sort(order[:MAX_REFERENCES])]
            self.model_ = TrainedTable.fit(fitted, network.cpu(), normal, rule, self.num_draws, seed)
            self.network_, self.scorer_ = self.model_.network, self.model_.scorer
            self.decision_scores_ = self.model_.scores(codes)
        self.threshold_ = float(np.quantile(self.decision_scores_, 1 - self.contamination))
        self.labels_ = (self.decision_scores_ > self.threshold_).astype(int)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Anomaly score of every row, ``(N,)`` float64; higher = worse. In nats for misfits."""
        codes = self._codes(X)
        return self.model_.scores(codes)

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
        scores, fitted = self.decision_function(X), self.decision_scores_
        if method == "linear":
            width = float(np.ptp(fitted))
            outlier = (scores - fitted.min()) / (width if width > 0 else 1.0)
        else:
            spread = float(fitted.std())
            outlier = erf((scores - fitted.mean()) / ((spread if spread > 0 else 1.0) * np.sqrt(2)))
        outlier = outlier.clip(0, 1)
        return np.stack([1 - outlier, outlier], axis=1)

    def explain(self, X: Any) -> np.ndarray:
        """What each feature adds to each row's score, ``(N, F)``; higher = worse: which field of the row is odd.

        For misfits the contributions add up to ``decision_function``. For the densities of the published score, which
        are of norms over all features, they are shares of the squared norm.
        """
        return np.asarray(sum(self.explain_terms(X).values()))

    def explain_terms(self, X: Any) -> dict[str, np.ndarray]:
        """The same by term, ``(N, F)`` each: why the field is odd.

        ``context_misfit``: the value is improbable beside the row's others. ``coupled_frequencies``: it is a value that
        occurs with rare ones in training. Other rules have the one term that they are of.
        """
        codes = self._codes(X)
        parts = self.model_.score(codes)[1]
        return {name: parts[:, place] for place, name in enumerate(self.model_.anomaly.terms)}

    def _codes(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return self.encoder_.transform(self._table(X, reset=False))

    def _table(self, X: Any, reset: bool) -> Any:
        """A frame as it is, anything else as an array ``(N, F)`` of numbers or objects."""
        if nw.dependencies.is_polars_lazyframe(X):
            raise ValueError("a lazy frame holds no values yet: give X.collect()")
        if not is_frame(X):
            return validate_data(
                self, X, reset=reset, dtype=None, ensure_all_finite=False, ensure_min_samples=2 if reset else 1
            )
        rows, columns = X.shape
        if not rows or not columns:
            raise ValueError(
                f"Found array with {rows} sample(s) and {columns} feature(s) (shape={X.shape}) "
                "while a minimum of 1 is required."
            )
        if reset and rows < 2:
            raise ValueError("Found array with 1 sample(s) while a minimum of 2 is required.")
        # scikit-learn refuses names that occur twice; here a column is known by its place.
        twice = hasattr(X, "iloc") and len(set(X.columns)) < columns
        validate_data(self, np.empty(X.shape, dtype=np.int8) if twice else X, reset=reset, skip_check_array=True)
        return X

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.estimator_type = "outlier_detector"
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags
