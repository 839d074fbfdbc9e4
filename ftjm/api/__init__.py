"""The HTTP API: `server.py` is the process, `routes/` has the paths, `http/` the base that all paths share."""
