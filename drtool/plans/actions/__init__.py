"""What steps do: for each `uses` one module, which foresees what it would do, and does it."""
