"""What has been spent, and may be spent? Sums that a thread of their own keeps, so that no heartbeat waits for them."""
