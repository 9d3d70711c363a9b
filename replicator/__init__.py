"""Cross-region replication for DynamoDB tables, on DynamoDB Streams."""

__version__ = "0.1.0"
