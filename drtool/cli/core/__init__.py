"""The parts that all commands share: parser, call, settings, options, progress and rendering."""
