"""The one escaping of foreign text before it is shown: names, labels, tags and messages of any origin. PURE.

Invariants
    The output moves no cursor, changes no colour, reverses no text and ends no line. Control characters (C0, C1), format
    characters (bidirectional overrides, zero-width ones), line and paragraph separators, unassigned characters and bytes
    that are not UTF-8 appear as `\\xNN`, byte by byte.
    JSON does not need it: its own escapes keep every character.
"""


def printable(text: str) -> str:
    """Return one line of `text`, with everything escaped that a terminal, a page or a log reader would interpret."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


def printable_lines(text: str) -> str:
    """Do the same for drtool's own text of several lines: line feeds and tabs stay."""
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.replace("\r\n", "\n").split("\n"))


def _escaped(letter: str) -> str:
    return "".join(
        f"\\x{byte:02x}" for byte in letter.encode("utf-8", "surrogateescape" if _is_byte(letter) else "surrogatepass")
    )


def _is_byte(letter: str) -> bool:
    """Return whether `letter` stands for one byte that was not UTF-8 (PEP 383)."""
    return "\udc80" <= letter <= "\udcff"
