"""Is there a better wave? The next stage of every place, chosen for all places at once.

Layered as variables, constraints, objective and solve; a wave that is a plain assignment needs no such model.
"""
