"""`fault`: show or end the faults that drills inject at targets."""
