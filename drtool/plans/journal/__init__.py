"""The journal: a tamper-evident record of a run, and what follows from it."""
