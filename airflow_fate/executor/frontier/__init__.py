"""What happens to a ready task? A pure state machine, with its events and instructions."""
