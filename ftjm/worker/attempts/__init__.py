"""One attempt as the guard runs it: its pipes, its files, the frames between supervisor and guard."""
