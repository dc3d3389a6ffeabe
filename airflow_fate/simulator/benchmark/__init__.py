"""Which policy is better, by how much, and how sure is that? Runs of the standard suites and what they tell."""
