"""Are the copies of a table equal? And if not: what differs, why, and what makes them so.

The parts, in the order of their use: `digests` (what a region's items come to), `scan` (reading a
region, bounded in rate), `comparison` (the three passes), `report` (what a person is told), and
`command` (the command line's view of all of it). What regions should hold is decided in
conflict.repair and nowhere here.
"""
