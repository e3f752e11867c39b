"""The one door through which every decision is made, counted and logged."""

from policyd.service.ids import Ids
from policyd.service.issues import count_series, issues_of, series_of
from policyd.service.service import Answer, Memory, Service, Settings

__all__ = [
    "Answer",
    "Ids",
    "Memory",
    "Service",
    "Settings",
    "count_series",
    "issues_of",
    "series_of",
]
