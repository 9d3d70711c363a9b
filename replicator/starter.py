"""The text of a starter `replicator.toml`: what `init` writes.

What is commented out is the default, or an example where there is none; every key stands here.

This module must not know where the text goes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

_BARE = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)

_TEXT = """\
# What is replicated where. Next: `replicator setup`, `replicator doctor`, `replicator run`.
# Any key can be overridden by the environment, for example REPLICATOR_HTTP__PORT=9090.

# control_table = "replicator-control"    # one per region, made by `replicator setup`
# allowed_endpoints = ["dynamodb.internal"]   # hosts that are neither AWS nor this machine
# future_bound_s = 60           # how far ahead of the clock a version may be
# tombstone_days = 7            # how long a delete is remembered

{regions}
{table}
# names = {{ {last} = {copy} }}     # where the table is called otherwise
# ttl_deletes = "replicate"     # or "ignore": deletes by the time-to-live service stay local
# marker = "_replicator"        # the attribute that holds an item's version
# write_rate = 500              # write units a second into each region; a delete counts as one
# where = "begins_with(id, 'live#')"   # which items are replicated; all if left out
# without = ["notes"]           # attributes that the copies lack, where only one region writes
# rename = {{ total = "sum" }}    # attributes that have another name in the copies, there as well

# [client]                      # how DynamoDB is called
# plane = "lean"                # or "botocore": slower, with all that botocore knows

# [http]                        # status page of `replicator run`
# host = "127.0.0.1"            # another than loopback needs a token
# port = 8080
# token = "…"                   # 16 characters or more; better in REPLICATOR_HTTP__TOKEN
# names = ["replicator.internal"] # further names that the page is asked for by, off loopback

# [reader]
# poll_idle_s = 0.25            # pause after an empty page
# describe_interval_s = 30      # how often shards are listed anew

# [writer]
# concurrency = 256             # writes in flight per target region
# unsettled_records_max = 10000 # records read ahead of the slowest target
# unsettled_bytes_max = 67108864 # the same in bytes

# [mending]                     # where a stream has lost records, tables are compared and repaired
# enabled = true
# after_s = 30                  # how long after the loss
# read_units_per_s = 500        # in each region, while that goes on
# write_units_per_s = 200       # in each region, on what is repaired

# [heartbeat]                   # by which lag is known when nobody writes
# place = "control"             # "table": through tables that every region writes; "off"
# interval_s = 5

# [conflicts]                   # what the ledger of conflicts keeps of your data
# images = false                # both items
# keys = false                  # keys in clear, on the page as well; else a digest
# digest_key = "…"              # 16 characters or more; if left out each region makes its own

# [telemetry]                   # besides /metrics
# otlp_endpoint = "http://127.0.0.1:4318/v1/metrics"
# otlp_interval_s = 30
# emf = false                   # on standard output, for CloudWatch; the templates in infra/ set it
# emf_interval_s = 60
# lagging_after_s = 30          # a link that is further behind is called lagging
"""

_FIRST_REGION = """\
[regions.{name}]
# aws_region = "us-east-1"      # default: the name of this section, which is the origin of writes
# endpoint_url = "http://127.0.0.1:4566"
# profile = "…"
# role_arn = "arn:aws:iam::123456789012:role/replicator"
"""

_MULTI_WRITER = """\
[tables.{name}]
regions = {regions}
# Every region writes. Where only one does, write in place of `regions`:
# source = {first}
# targets = {others}
"""

_ONE_WAY = """\
[tables.{name}]
source = {first}
targets = {others}
# Only the source writes. Where every region does, write in place of these two:
# regions = {regions}
"""


def starter(*, regions: Sequence[str], table: str, source: str | None) -> str:
    """The text for these regions and this table; with a `source`, only that region writes."""
    first = source or regions[0]
    others = [region for region in regions if region != first]
    entry = _MULTI_WRITER if source is None else _ONE_WAY
    sections = [_FIRST_REGION.format(name=_key(regions[0]))]
    sections += [f"[regions.{_key(region)}]\n" for region in regions[1:]]
    return _TEXT.format(
        regions="\n".join(sections),
        table=entry.format(
            name=_key(table),
            regions=json.dumps(list(regions)),
            first=json.dumps(first),
            others=json.dumps(others),
        ).rstrip(),
        last=_key(regions[-1]),
        copy=json.dumps(f"{table}-copy"),
    )


def _key(name: str) -> str:
    """A name as a TOML key: bare where it can be."""
    return name if _BARE.fullmatch(name) else json.dumps(name)
