"""Records as plain values, for the verbs."""

from ftjm.rendering import plain

__all__ = ["plain"]
