"""One partition, run by its owner and followed by its standbys. Ports only: no Kafka, no RocksDB, no threads."""
