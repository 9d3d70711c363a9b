"""A simulation of the shipping code: regions, streams, writers, crashes, in virtual time.

schedule.py     what a seed decides: regions, keys, clocks, pace, faults
application.py  the applications' writes, and the time-to-live service
region.py       one region's table
worker.py       one region's replicator: the shipping lineage, transformer, flow and protocol,
                driven one operation at a time by a seeded scheduler
ledger.py       which records are settled, by an account of its own
check.py        one schedule from beginning to end, with everything that must hold
coverage.py     how often the situations that matter came up
points.py       every call of the pipeline as a point at which it can be hit
crash_points.py a crash at every point, before, after, unanswered and overtaken
run.py          any number of seeds on all cores; one seed, traced (trace.py)
soak.py         crash points and schedules at length, with a closing table
mutants.py      each rule of the protocol switched off, and which schedule notices
scene.py        schedules written by hand (tests/conflict/test_rules.py, test_found_schedules.py)
"""
