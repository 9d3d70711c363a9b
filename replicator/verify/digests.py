"""What the items of a region come to: per bucket of keys, a sum of digests and a count.

A key falls into the same bucket in every region, so two regions that hold the same items have the
same sums, in whatever order they were read. A sum, not an exclusive or, for that forgets what comes
twice. Memory is flat: BUCKETS numbers per region, whatever the size of the table.

Pure; this module must not know where items come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b

from conflict.content import DIGEST_BYTES
from conflict.operations import Key

BUCKETS = 65_536
"""Of a hundred million items a bucket holds some 1,500: those that one difference makes suspect."""

_BUCKET_BYTES = 2
_MODULUS = 1 << (8 * DIGEST_BYTES)


def key_digest(key: Key) -> bytes:
    """DIGEST_BYTES that stand for a key."""
    return blake2b(key.id.encode(), digest_size=DIGEST_BYTES).digest()


def bucket_of(digest: bytes) -> int:
    """The bucket of a key's digest, below BUCKETS."""
    return int.from_bytes(digest[:_BUCKET_BYTES], "big")


class Buckets:
    """The sums of one region."""

    def __init__(self) -> None:
        self._sums = [0] * BUCKETS
        self._counts = [0] * BUCKETS

    def add(self, bucket: int, content: bytes) -> None:
        """Count an item of a bucket by the digest of its content, which includes its key."""
        self._sums[bucket] = (self._sums[bucket] + int.from_bytes(content, "big")) % _MODULUS
        self._counts[bucket] += 1

    def merge(self, other: Buckets) -> None:
        """Count what another has counted of the same region."""
        self._sums = [(a + b) % _MODULUS for a, b in zip(self._sums, other._sums, strict=True)]
        self._counts = [a + b for a, b in zip(self._counts, other._counts, strict=True)]

    def at(self, bucket: int) -> tuple[int, int]:
        """The sum and the count of a bucket."""
        return self._sums[bucket], self._counts[bucket]

    def unlike(self, other: Buckets) -> Iterator[int]:
        """The buckets that come to something else in another region."""
        ours = zip(self._sums, self._counts, strict=True)
        theirs = zip(other._sums, other._counts, strict=True)
        both = enumerate(zip(ours, theirs, strict=True))
        return (bucket for bucket, (one, two) in both if one != two)


def unequal(regions: Mapping[str, Buckets]) -> list[int]:
    """The buckets that do not come to the same everywhere."""
    first, *others = regions.values()
    found: set[int] = set()
    for other in others:
        found.update(first.unlike(other))
    return sorted(found)


def grouped(
    buckets: Sequence[int], regions: Mapping[str, Buckets], keys_max: int
) -> Iterator[frozenset[int]]:
    """These buckets in groups of at most `keys_max` items, but for one that alone holds more."""
    group: list[int] = []
    keys = 0
    for bucket in buckets:
        more = sum(region.at(bucket)[1] for region in regions.values())
        if group and keys + more > keys_max:
            yield frozenset(group)
            group, keys = [], 0
        group.append(bucket)
        keys += more
    if group:
        yield frozenset(group)


class Suspects:
    """Keys of some buckets, with what each region holds under them, as digests.

    A key that came from every region with one content is innocent.
    """

    def __init__(self, regions: int) -> None:
        self._regions = regions
        self._seen: dict[bytes, tuple[Key, bytes, int, bool]] = {}

    def add(self, digest: bytes, key: Key, content: bytes) -> None:
        """An item of one region."""
        seen = self._seen.get(digest)
        if seen is None:
            self._seen[digest] = (key, content, 1, True)
        else:
            self._seen[digest] = (seen[0], content, seen[2] + 1, seen[3] and seen[1] == content)

    def keys(self) -> list[Key]:
        """The keys that do not look equal everywhere."""
        return [
            key
            for key, _, count, equal in self._seen.values()
            if count != self._regions or not equal
        ]
