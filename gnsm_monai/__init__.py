"""Label-free quality control of segmentations by Gumbel Noise Score Matching (arXiv 2304.03220), on MONAI."""

__version__ = "0.2.0"
