"""The worker's rules, pure: sessions, slot offers, reports, deadlines."""
