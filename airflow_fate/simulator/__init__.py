"""What if? The same planner over simulated time, and instances to measure it on."""
