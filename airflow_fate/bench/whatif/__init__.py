"""What would each policy make of work that is only estimated? Several draws of the truth, side by side."""

from airflow_fate.bench.whatif.answer import Answer, answer
from airflow_fate.bench.whatif.draw import DrawJob, draw_jobs, execute_draw

__all__ = ["Answer", "DrawJob", "answer", "draw_jobs", "execute_draw"]
