"""The evidence of runs: objectives, history, and records in the catalogue."""
