"""`target`: manage the targets, the places that hold copies."""
