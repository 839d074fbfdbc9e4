"""The history checker: whether what the topics hold may have happened, told by the topics alone.

Pure, streams, and trusts no code that made the history: of the product it takes the records and the table of
transitions.
"""

from ftjm.checker.evidence import Evidence, Execution, Heard
from ftjm.checker.judge import Judge, check
from ftjm.checker.report import Entry, Found, Kind, Name, Report

__all__ = ["Entry", "Evidence", "Execution", "Found", "Heard", "Judge", "Kind", "Name", "Report", "check"]
