"""The decisions of replication: pure, standard library only, no I/O, no clock, no environment.

version.py     the version of an item: its total order, its text, the hybrid logical clock rule
operations.py  the table operations that a step may ask for, and what comes back
origin.py      what a stream record is: echo, local write, stamped write, delete
resolve.py     who wins; the README's truth table is made from it
protocol.py    the steps that replicate one change at home, as generators over operations
merge.py       bringing a change into one region's table
one_way.py     the same for tables with one source
content.py     when two contents are equal
seed.py        bringing a scanned item into a target beside live replication (backfill)
values.py      how a value is made that every record needs a dozen of
repair.py      what all regions should hold for a key, and how they come to (verify)
"""
