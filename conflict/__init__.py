"""The decisions of replication: pure, standard library only, no I/O, no clock, no environment.

version.py     the version of an item: its total order, its text, the hybrid logical clock rule
operations.py  the table operations that a step may ask for, and what comes back
origin.py      what a stream record is: echo, local write, stamped write, delete
protocol.py    the steps that replicate one change, as generators over operations
resolve.py     who wins, as one table of rows from which the README's truth table is made
"""
