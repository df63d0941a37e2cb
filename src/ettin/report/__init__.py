"""From finished directories to one page: `make_report` is all that others call."""

from ettin.report.page import ReportSummary, make_report

__all__ = ["ReportSummary", "make_report"]
