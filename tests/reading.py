"""Cases as inference.yaml reads them, without a trained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from monai.bundle import ConfigParser
from monai.data import Dataset
from torch import zeros

from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.paths import bundle_root

NOWHERE = SimpleNamespace(position_size=None, log_prior=zeros(1))


def scoring_dataset(
    cases: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], network: Any = None, fields_of_view: Any = None
) -> Dataset:
    """The config's transforms for a model with these settings, whose network by default knows nothing of positions."""
    parser = ConfigParser(ConfigParser.load_config_file(bundle_root() / "configs" / "inference.yaml"))
    scheme, network = LabelScheme.from_dict(settings["labels"]), network or NOWHERE
    model = {"settings": settings, "scheme": scheme, "network": network, "fields_of_view": fields_of_view}
    parser["model"] = SimpleNamespace(**model, contact_deviations=None)
    return Dataset(list(cases), parser.get_parsed_content("preprocessing"))
