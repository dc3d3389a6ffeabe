"""The kinds of events that are awaited in the heap."""

ARRIVED, TOOL_ENDED, LOADED, INPUTS, PREFILLED, DECODED = 0, 1, 2, 3, 4, 5
