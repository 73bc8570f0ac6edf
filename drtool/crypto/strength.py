"""The check for trivial passwords, which are tried first.

Pure. The bound is low on purpose: Argon2id makes each guess slow, so only a password on a list or within a short search
is refused.
"""

SHORTEST = 10
_COMMON = (
    "password",
    "passw0rd",
    "qwerty",
    "asdfgh",
    "letmein",
    "iloveyou",
    "welcome",
    "administrator",
    "backup",
    "drtool",
)
_DIFFERENT_MIN = 5


def weakness(password: bytes) -> str:
    """Return why a password is trivial, in words that follow "it", or an empty string."""
    text = password.decode("utf-8", "replace")
    if len(text) < SHORTEST:
        return f"has fewer than {SHORTEST} characters"
    if len(set(text.lower())) < _DIFFERENT_MIN:
        return "repeats a few characters"
    if text.isdigit():
        return "is only digits"
    rest = text.lower()
    for word in _COMMON:
        rest = rest.replace(word, "")
    letters = "".join(letter for letter in rest if letter.isalpha())
    return "is a common word with digits or signs" if len(letters) <= 2 and rest != text.lower() else ""
