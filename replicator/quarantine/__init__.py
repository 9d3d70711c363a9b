"""What a person does about changes that could not be applied: look, make them again, give them up.

`replay` is the replaying of one parked change by the steps of replication, `command` the commands.
"""
