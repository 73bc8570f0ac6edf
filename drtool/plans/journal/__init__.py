"""What a run did, in an order that nobody can change afterwards, and what follows from it."""
