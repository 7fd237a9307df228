"""What a ranking is written to: tables, and one page that can be read, searched, marked and printed offline."""

from gnsm_monai.report.builder import build_report
from gnsm_monai.report.write_results import ResultsWriter

__all__ = ["ResultsWriter", "build_report"]
