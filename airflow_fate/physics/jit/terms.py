"""The formulas of docs/physics.md, compiled."""

from __future__ import annotations

from airflow_fate.physics import terms
from airflow_fate.physics.jit.compiled import compiled

SAME_TIME_S = terms.SAME_TIME_S

read_s = compiled(terms.read_s)
member_bytes = compiled(terms.member_bytes)
fits = compiled(terms.fits)
prefill_tokens = compiled(terms.prefill_tokens)
transfer_s = compiled(terms.transfer_s)
reusable_tokens = compiled(terms.reusable_tokens)
step = compiled(terms.step)
context_tokens = compiled(terms.context_tokens)
chunk_tokens = compiled(terms.chunk_tokens)
overdue_s = compiled(terms.overdue_s)
