"""By what are policies judged, and against which one?"""

OBJECTIVES = ("makespan", "mean", "p95", "balanced")
METRICS = {"makespan": "makespan_s", "mean": "mean_s", "p95": "p95_s"}
"""Metric -> its key in a summary. Each is an objective, too."""

BASELINE = "round_robin"
FATE = "fate"
ANY = "balanced"
"""The objective under which policies run that can't use one."""
