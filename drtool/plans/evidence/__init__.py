"""What a run proves: its objectives, measured."""
