"""Metrics and health: what each role counts and measures, and the small server that shows it."""
