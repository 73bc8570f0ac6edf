"""The catalogue's own objects at the sites: their audit (`audit`) and repair (`mending`)."""

from drtool.repository.catalogue.audit import (
    CatalogueAudit,
    Fault,
    audit_catalogue,
    is_replaced,
    problems_with_pages,
    read_pages,
    remember_faults,
)
from drtool.repository.catalogue.mending import MendedCatalogue, mend_catalogue, preview_mending

__all__ = [
    "CatalogueAudit",
    "Fault",
    "MendedCatalogue",
    "audit_catalogue",
    "is_replaced",
    "mend_catalogue",
    "preview_mending",
    "problems_with_pages",
    "read_pages",
    "remember_faults",
]
