"""Applies events to the state: one handler for each event."""
