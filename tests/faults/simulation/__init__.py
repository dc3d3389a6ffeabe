"""Do the promises hold under every schedule? Real executors and a real ledger, in a simulated world full of faults.

One seed decides everything. A schedule is a list of steps, each of which lets one process go on to its next
transaction or message. So any step can be left out, and the rest is still a schedule: that is how a failure is shrunk.
"""
