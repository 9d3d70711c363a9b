"""The AWS edge: one region's DynamoDB and DynamoDB Streams, called through botocore.

The only package that imports botocore. It adds four things to it and nothing else: calls run on a
bounded pool of threads, so that coroutines can wait for them (api.py); every failure becomes one of
replicator.errors, by the tables of refusals.py (failures.py); credentials come from the usual
chain, a profile, or a role that is assumed anew before it expires (sessions.py); and a call that
was refused for this machine's clock is signed once more by the service's own (clock.py), which
botocore does not do.

This package must not know what a request means: conditions are made in requests.py.
"""
