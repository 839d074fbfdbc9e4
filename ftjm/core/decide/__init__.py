"""Decides commands: one handler for each command, which returns events or a refusal."""
