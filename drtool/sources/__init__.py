"""The sources of backups, each with capture and restore: file systems, streams, the system, and databases."""
