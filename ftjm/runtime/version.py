"""The version of ftjm. It is the same as in pyproject.toml; a test compares the two."""

__version__ = "0.1.0"
