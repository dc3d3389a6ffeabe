"""What of a workload is played? Its arrivals at another speed, and no outputs that would have to move. Pure."""

from __future__ import annotations

from dataclasses import replace

from airflow_fate.simulator.workload import Workload


def as_played(workload: Workload, speed: float) -> Workload:
    """What a replay plays of a workload, and what a simulation of the replay must play.

    Engines and tools take their time whatever the speed. Outputs have no bytes: what a child needs of them is in its
    prompt, which the replay sends.

    :param speed: how many times faster than the workload says workflows arrive.
    """
    workflows = tuple(
        replace(
            workflow,
            arrival_s=workflow.arrival_s / speed,
            stages={name: replace(stage, output_bytes=0) for name, stage in workflow.stages.items()},
        )
        for workflow in workload.workflows
    )
    return replace(workload, workflows=workflows)
