"""What does one heartbeat do? Facts in, release, plan, claim, hand over, tell."""
