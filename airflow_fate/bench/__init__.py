"""Which policy is better, by how much, and how sure is that?

``suite`` plays the standard suites and ``report`` tells what came out; ``run`` plays a workload from files; ``optimum``
compares with the best that anybody could do; ``whatif`` plays work that is only estimated; ``planner`` and ``executor``
time what planning takes.
"""
