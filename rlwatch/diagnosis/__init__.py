"""Diagnosis: which link of the loop broke first, what the alerts are together, and what to do in which order.

Names are loaded when first used: a watch needs its `Course` from the first row, the tables when something broke.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlwatch.diagnosis.advice import Advice
    from rlwatch.diagnosis.assemble import diagnose, incident_of
    from rlwatch.diagnosis.cost import Cost
    from rlwatch.diagnosis.course import Course
    from rlwatch.diagnosis.incident import Incident

_HOMES = {
    "Advice": "advice",
    "Cost": "cost",
    "Course": "course",
    "Incident": "incident",
    "diagnose": "assemble",
    "incident_of": "assemble",
}

__all__ = ["Advice", "Cost", "Course", "Incident", "diagnose", "incident_of"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rlwatch.diagnosis' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"rlwatch.diagnosis.{_HOMES[name]}"), name)
