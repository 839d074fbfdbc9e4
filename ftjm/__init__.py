"""ftjm: a fault-tolerant job manager, event-sourced over Kafka."""

__version__ = "0.1.0"
