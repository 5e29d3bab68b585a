"""
The control API: watch a run, inject and heal faults by hand, abort; on loopback, behind a token.

`steering` is the run's side of it, `server` the wire's, `host` the child of `locust -f …` that has runs made.
"""
