"""The status page and its API: reads a snapshot, changes nothing."""
