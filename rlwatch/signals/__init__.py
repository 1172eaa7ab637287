"""The vocabulary: every canonical signal, its unit, its scale and its keys in each framework.

Data and a dict look-up, no logic: `SIGNALS` describes the signals, one file a framework lists its keys, and
`resolve` leads from a key to its signal.
"""

from __future__ import annotations

from rlwatch.signals.routing import Route, is_step, is_summary, resolve, suggest
from rlwatch.signals.vocabulary import SIGNALS, Kind, Signal

__all__ = ["SIGNALS", "Kind", "Route", "Signal", "is_step", "is_summary", "resolve", "suggest"]
