"""The HTTP paths, a file a group."""
