"""The report: a ranking as one page that can be read, searched, marked and printed without a network."""

from gnsm_monai.report.builder import build_report

__all__ = ["build_report"]
