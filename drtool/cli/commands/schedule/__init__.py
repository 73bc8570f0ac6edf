"""`schedule`: manage timers for backup, prune, verify, status and plans."""
