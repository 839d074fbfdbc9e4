"""Time zones, cron expressions and intervals: when a schedule is due."""
