"""Running a plan: what comes next is decided by pure functions over the journal; effects happen around them."""
