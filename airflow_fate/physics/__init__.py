"""What does a placement cost? Pure functions over immutable values, and the compiled kernel.

Nothing is imported here: a gateway needs the plain formulas (``terms``) in environments that have no numpy.
"""
