"""What is there to run? Stages and workflows, as immutable values."""

from airflow_fate.workflow.stage import Segment, Stage, StageKind, StageRef, conversation_key, extend_chain
from airflow_fate.workflow.workflow import Workflow

__all__ = ["Segment", "Stage", "StageKind", "StageRef", "Workflow", "conversation_key", "extend_chain"]
