"""A gateway among people who wish it ill: whatever they send, others are answered, and nothing grows."""
