"""The physics over flat arrays, compiled: one event loop for the simulator and for the planner's playouts."""
