"""Rules that the product does not keep yet, each with the reason. `make truth ARGS=--all-rules` applies them too."""

NOT_YET: dict[str, str] = {}
