"""Backfill: what stands in one region's table is brought to the others, beside live replication.

    Scan of the source, in segments ─► conflict.seed ─► targets
              │                                            │
              └──────── cursor per segment ◄── settled ────┘

A live write or delete always wins, in whatever order things arrive (conflict/seed.py says how), so
there are no watermarks and nothing has to stand still. All that must survive is in the control
table: a backfill that was killed goes on where every earlier item is settled in every target.
"""
