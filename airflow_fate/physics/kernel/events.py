"""The kinds of events: those that are awaited, and those that are written to the log."""

ARRIVED, TOOL_ENDED, LOADED, INPUTS, PREFILLED, DECODED = 0, 1, 2, 3, 4, 5
"""In the heap."""

ARRIVE, DONE, READY, FINISH, TOOL, BIND, LOAD, EVICT, TRANSFER, PREFILL, DECODE = range(11)
"""In the log."""
