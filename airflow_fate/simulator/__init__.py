"""What if? The same planner over simulated time, instances to measure it on, and the benchmark."""
