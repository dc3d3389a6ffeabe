"""FATE: a future-state-aware scheduler for LLM workflows, as an Airflow executor."""

__version__ = "0.1.0"
