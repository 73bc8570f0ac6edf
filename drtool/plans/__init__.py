"""Recovery plans: runbooks that are rehearsed, measured and proven."""
