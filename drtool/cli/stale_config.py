"""Differences between a configuration and the catalogue: targets that only one of them names."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from drtool.cli.text import Document
from drtool.cli.writing import Place, target_text
from drtool.config.urls import NO_ACCESS
from drtool.events import Warned

if TYPE_CHECKING:
    from drtool.cli.call import Call
    from drtool.repository import Repository, TargetSpec


def tell_stale(call: "Call", repository: "Repository") -> Document:
    """Report the edits that the configuration needs, and return them for the document. No command edits it."""
    path = call.check_configured()
    document = lacking(repository, call.configured_targets(), str(path))
    words = stale_words(document)
    if words:
        advice = "do the same on other hosts, and print the recovery kit again: drtool key kit"
        call.emit(Warned(message=f"{words}; {advice}"))
    return document


def lacking(repository: "Repository", configured: "Iterable[TargetSpec]", file: str) -> Document:
    """Return the lines to add under `sites:` of a configuration, and the targets to remove from it."""
    from drtool.repository.places import full_url

    named = {spec.name: full_url(spec.url) for spec in configured}
    rows = {name: row for name, row in repository.target_rows().items() if row.state != "lost"}
    add = []
    for name, row in sorted(rows.items()):
        reached = repository.targets.reachable(name)
        spec = repository.targets.specs.get(name)
        url = full_url(spec.url if reached and spec is not None else row.url)
        if named.get(name) != url and (name not in named or reached):
            place = Place(
                name=str(name),
                url=url,
                access=spec.access if reached and spec is not None else NO_ACCESS,
                weight=max(1, row.weight),
                keys=row.keys,
                vote="only" if row.votes_only else "auto",
            )
            add.append({"name": str(name), "url": url, "line": target_text(place)})
    return {"file": file, "add": add, "remove": sorted(str(name) for name in named.keys() - rows.keys())}


def stale_words(document: Document) -> str:
    """Return the necessary edits in one sentence, or "" if there are none."""
    lines = ", ".join(f"`{row['line']}`" for row in document["add"])
    parts = [f"add {lines} under `sites:`"] if lines else []
    parts += [f"remove {', '.join(document['remove'])}"] if document["remove"] else []
    return f"edit {document['file']}: {', '.join(parts)}" if parts else ""
