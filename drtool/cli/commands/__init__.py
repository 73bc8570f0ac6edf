"""One module per command, named as the command: `plan run` is in plan/run.py. No command imports another."""
