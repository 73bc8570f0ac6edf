"""Faults that a drill injects: who may suffer (`guards`, `windows`, `victims`: pure), injecting, and clearing away."""
