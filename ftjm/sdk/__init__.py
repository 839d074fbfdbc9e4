"""The library for users' programs: tasks, requests, the client, and what a running attempt can report."""
