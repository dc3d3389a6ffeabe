"""By what are policies judged?"""

METRICS = {"makespan": "makespan_s", "mean": "mean_s", "p95": "p95_s"}
"""Metric -> its key in a summary. Each is an objective, too."""
