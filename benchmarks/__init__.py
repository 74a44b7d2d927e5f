"""Measurements of unified_agents beside hand-written CrewAI and AutoGen: `python -m benchmarks graph|overhead|fanout|startup|all`.

::

    __main__ ─▶ graph, overhead, fanout ─▶ common.Lab ─┬─▶ server.py      the model: one process on loopback, waits and counts
             └▶ startup (fresh processes)              └─▶ worker.py      one warm process a variant, so that CPU time is its own
                                                             ├ unified.py      the work as a TeamSpec
                                                             └ handwritten.py  the same work as a competent user writes it

Variants take turns (A B A B …), so that what else the machine does falls on all of them; tables hold medians and ratios within a run.
"""
