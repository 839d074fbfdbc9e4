"""The scheduler process: threads, Kafka and RocksDB around the engine's partitions."""
