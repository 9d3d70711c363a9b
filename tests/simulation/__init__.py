"""A simulation of the shipping code: regions, streams, writers, crashes, in virtual time.

worker.py    one region's replicator: the shipping lineage, transformer, flow and protocol, driven
             one operation at a time by a seeded scheduler
schedule.py  what a seed decides: regions, keys, clocks, pace, faults, and the application's writes
check.py     one schedule from beginning to end, with everything that must hold
run.py       any number of seeds on all cores
"""
