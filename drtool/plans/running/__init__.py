"""Running a plan. Pure functions over the journal decide what comes next; effects happen around them."""
