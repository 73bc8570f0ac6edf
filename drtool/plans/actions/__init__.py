"""The actions of steps: one module for each `uses`, which previews its work and performs it."""
