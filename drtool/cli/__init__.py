"""The command line, which turns words into calls and results into text.

It holds no logic, no store and no thread, and only `render` draws.
"""
