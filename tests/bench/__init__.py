"""Ratios of the shipping code to plain boto3, each from rounds that take turns in one session.

figures.py        a figure, its goal, and what was measured of it
measuring.py      CPU and wall time of a piece of work, and two of them side by side
endpoint.py       the null endpoint: fixed answers, right checksums, any round trip
engine.py         DynamoDB Local, compiled and with untouched regions
report.py         the table, and bench.json
__main__.py       `make bench`: finds the figures, runs them

Any module here that defines `BENCHES`, a sequence of figures.Bench, takes part.
"""
