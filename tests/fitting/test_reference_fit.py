"""What is said of a network that has learnt nothing."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from gnsm_monai.fitting.reference_fit import learnt_context


def test_a_network_at_the_loss_of_independent_voxels_is_named(caplog: pytest.LogCaptureFixture) -> None:
    alone = np.array([0.01, 0.03, 0.04])
    with caplog.at_level(logging.WARNING):
        assert learnt_context({"val_loss": 0.9 * alone, "no_context_loss": alone})
        assert learnt_context({"val_loss": alone})  # a loss that says nothing of context
        assert not caplog.messages
        assert not learnt_context({"val_loss": 0.99 * alone, "no_context_loss": alone})
    assert "independent voxels (0.0264, against 0.0267)" in caplog.messages[0]
