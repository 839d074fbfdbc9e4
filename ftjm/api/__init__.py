"""The read side and HTTP: a projection of the events into SQLite, and what is served from it."""
