"""The lean data plane: the calls that every record needs, at a few microseconds each.

access.py      where an endpoint is and what its calls are signed with, as botocore worked it out
keyring.py     the keys, renewed off the loop
signing.py     Signature Version 4, with everything kept that does not change from call to call
connection.py  one exchange at a time over one connection
pool.py        the connections to one endpoint: bounded, kept alive, watched
shapes.py      what each operation answers, as types that the decoder holds it to
api.py         ports.Api out of these

HTTP is parsed by httptools, JSON and its types by msgspec; written here is only what neither gives.
There is no retry here: what may pass is Transient, and the writer and the reader try again.
"""
