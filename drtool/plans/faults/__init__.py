"""Faults that a drill injects. `guards`, `windows` and `victims` (pure) decide; the others inject and clear."""
