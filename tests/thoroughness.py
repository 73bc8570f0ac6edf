"""How many of the steps of something long are tried: each of them by `make test-all`, every third by `make test`."""

import os

STRIDE = 1 if os.environ.get("THOROUGH") else 3
"""Steps from one trial to the next. The first and the last step are always among them."""
