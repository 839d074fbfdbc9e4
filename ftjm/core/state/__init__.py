"""One partition's state: rows under sorted keys."""
