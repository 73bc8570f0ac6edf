"""The sites that vote on the catalogue, and changes of them."""

from drtool.operations.sites.applying import carry_out
from drtool.operations.sites.change import Change
from drtool.operations.sites.listing import sites
from drtool.operations.sites.planning import place_for, plan_addition, plan_arbiter, plan_removal
from drtool.operations.sites.replacing import replace_site

__all__ = [
    "Change",
    "carry_out",
    "place_for",
    "plan_addition",
    "plan_arbiter",
    "plan_removal",
    "replace_site",
    "sites",
]
