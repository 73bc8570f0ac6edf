"""The script that rebuilds a host from its record. It is the same for every host, except for the host's description.

It reads the lists beside it (`packages-manual.txt`, `units.txt`, …) and the files of the snapshot, and contains none of them.
"""

from importlib.resources import files

from drtool.sources.system.record import System


def script(system: System) -> bytes:
    """`rebuild.sh`."""
    told = {
        "HOST": system.hostname,
        "OS": system.os.get("PRETTY_NAME", "an unknown system"),
        "ARCHITECTURE": system.architecture,
    }
    text = files(__package__).joinpath("rebuild.sh").read_text("utf-8")
    for name, value in told.items():
        text = text.replace(f"@{name}@", _on_a_line(value), 1)
    return text.encode()


def _on_a_line(text: str) -> str:
    """As a comment can hold it: a name must not begin a line of the script."""
    return "".join(character if character.isprintable() else "?" for character in text)[:200]
