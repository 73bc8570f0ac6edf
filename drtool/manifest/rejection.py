"""The reason why a change does not apply."""

import msgspec


class Rejection(msgspec.Struct, frozen=True):
    """A stable word for programs, and a sentence for people."""

    reason: str
    message: str


class Refused(Exception):
    """Carries a rejection out of a transition. It never leaves the state machine."""

    def __init__(self, reason: str, message: str) -> None:
        self.rejection = Rejection(reason, message)
