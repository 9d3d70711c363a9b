"""Moving an application from one region to another: what is not yet across, and who is the source.

tail.py reads what a stream holds beyond its checkpoints, exposure.py says which of it a target
lacks, across.py keeps in the target until when all had arrived, active.py who a one-way table's
source is by now, holding.py moves that in all of its regions. plan.py and section.py are pure;
steps.py is the order of the acts; command.py puts them together.
"""
