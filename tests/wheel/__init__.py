"""The package as somebody gets it: a wheel in an environment that has nothing else, away from any checkout."""
