"""The upper bound on damage if only a sample was read: exact, without tables.

Source: Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial" (1934).
A sample drawn without replacement, or in proportion from several sites, says at least as much (Hoeffding 1956), so the
bound holds.
"""

from math import exp, fsum, lgamma, log, log1p

CONFIDENCE = 0.95
_HALVINGS = 60


def upper_bound(read: int, bad: int, population: int) -> float | None:
    """Return the fraction of the population that is bad at most, at 95 % confidence, or None if nothing was read.

    Of `population`, `read` were drawn at random, and `bad` of these are bad. Exact if all were read.
    """
    if not 0 <= bad <= read <= population:
        raise ValueError(f"{bad} bad of {read} read of {population}")
    if read == 0:
        return None if population else 0.0
    if read in {population, bad}:
        return bad / read
    low, high = bad / read, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _at_most(bad, read, middle) > 1 - CONFIDENCE:
            low = middle
        else:
            high = middle
    return high


def _at_most(bad: int, read: int, fraction: float) -> float:
    """Return the probability of at most `bad` in `read` draws."""
    if fraction >= 1.0:
        return 0.0
    terms = (
        lgamma(read + 1)
        - lgamma(k + 1)
        - lgamma(read - k + 1)
        + (k * log(fraction) if k else 0.0)
        + (read - k) * log1p(-fraction)
        for k in range(bad + 1)
    )
    return fsum(map(exp, terms))
