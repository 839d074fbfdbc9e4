"""A real Kafka with nothing installed: jars by checksum from Maven Central, Java from a wheel, KRaft."""
