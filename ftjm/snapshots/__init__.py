"""Snapshots of a store: lists, uploads and restores them."""
