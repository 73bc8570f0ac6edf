"""Side by side with the tools that people use today: `make bench` (README.md says what is measured, and how)."""
