"""What happens when a workload runs on a real fleet, without Airflow?

Prompts are made up, and engines compute them. ``driver`` is the loop, in real time, and ``session`` plays one policy
from a fleet that is made ready to figures. ``prepare``, ``prompts``, ``progress``, ``log`` and ``compare`` are pure.
"""
