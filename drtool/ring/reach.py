"""The reach of each site's virtual nodes, which makes its share of the copies follow its weight.

A walk that looks for several distinct sites is a race without replacement. A heavy site can win a pack only once, so
light sites end up with more than their part. With rates v (virtual nodes times reach) a site is met at an exponentially
distributed distance, and the probability that it is among the first k can be computed. Here v is solved for so that
this probability is proportional to the weight, or nearly (`goals`). A site that must have every pack is *certain*: it
is taken first, and is not part of the race.

Invariants
    Integers only, with the same results on every machine for ever: fixed-point numbers with 64 fractional bits.
    Equal weights have equal reach. With one copy every reach is 1.

Source: inclusion probabilities of successive sampling (Rosén 1972, "Asymptotic theory for successive sampling"),
integrated over the logarithm of the distance by the trapezoid rule, which converges exponentially there.
"""

from collections.abc import Sequence

REACH_ONE = 1 << 16
"""A reach of 1."""

_BITS = 64
_ONE = 1 << _BITS
_LN2 = 12786308645202655660  # ln 2 in fixed point
_SOFT_CAP = _ONE * 955 // 1000
_MOST_GAIN = _ONE * 45 // 1000
_CERTAIN = _ONE - (_ONE >> 12)  # beyond it the solution diverges
_CLOSE = _ONE // 500
_MAX_ROUNDS = 16


def inclusion(weights: Sequence[int], copies: int) -> list[int]:
    """Return the part of all packs that each site is entitled to, in 2**-64.

    It is proportional to the weight and at most 1. The excess of a site goes to the others.
    """
    return _capped(weights, copies, _ONE)


def _capped(weights: Sequence[int], copies: int, cap: int) -> list[int]:
    """Return parts by weight, none above `cap`, that add up to `copies` if possible."""
    shares = [cap] * len(weights)
    free, places = sum(weights), copies * _ONE
    order = sorted(range(len(weights)), key=lambda i: -weights[i])
    for rank, site in enumerate(order):
        if weights[site] * places < free * cap:
            for other in order[rank:]:
                shares[other] = places * weights[other] // free
            break
        free, places = free - weights[site], places - cap
    return shares


def goals(weights: Sequence[int], copies: int) -> list[int]:
    """Return the parts that the ring aims at: entitlements, with those near 1 lowered if the others gain only a little.

    A site's reach differs greatly between certain and nearly certain, which would move much data when a site joins or
    leaves.
    """
    entitled, softer = inclusion(weights, copies), _capped(weights, copies, _SOFT_CAP)
    if copies * _ONE > len(weights) * _SOFT_CAP:
        return entitled
    gain = max((soft - hard) * _ONE // hard for soft, hard in zip(softer, entitled, strict=True))
    part = _ONE if gain <= _MOST_GAIN else _MOST_GAIN * _ONE // gain
    return [hard + ((soft - hard) * part >> _BITS) for soft, hard in zip(softer, entitled, strict=True)]


def as_fraction(share: int) -> float:
    """Return a result of `inclusion` as a fraction for people."""
    return share / _ONE


def reaches(weights: Sequence[int], copies: int) -> list[int | None]:
    """Return how far each site's nodes reach, in 2**-16, or None for a site that is certain to hold every pack."""
    wanted = dict(zip(weights, goals(weights, copies), strict=True))
    racing = sorted(weight for weight in weights if wanted[weight] < _CERTAIN)
    places = copies - (len(weights) - len(racing))
    solved = _solve({weight: wanted[weight] for weight in racing}, racing, places) if racing else {}
    return [solved.get(weight) for weight in weights]


def _solve(wanted: dict[int, int], racing: Sequence[int], places: int) -> dict[int, int]:
    """Return the reach for each distinct weight in the race."""
    if len(wanted) == 1 or places <= 1:
        return dict.fromkeys(wanted, REACH_ONE)
    whole = sum(wanted[weight] for weight in racing)
    goal = {weight: min(share * places * _ONE // whole, _CERTAIN) for weight, share in wanted.items()}
    goal_logs = {weight: _minus_log(_ONE - share) for weight, share in goal.items()}
    counts = {weight: racing.count(weight) for weight in goal}
    rates = dict(goal_logs)
    for _ in range(_MAX_ROUNDS):
        met = _race(rates, counts, places)
        if all(abs(met[weight] - share) * _ONE < _CLOSE * share for weight, share in goal.items()):
            break
        rates = {weight: rate * goal_logs[weight] // _minus_log(_ONE - met[weight]) for weight, rate in rates.items()}
    lightest = min(rates)
    unit = rates[lightest]
    return {weight: rate * lightest * REACH_ONE // (weight * unit) for weight, rate in rates.items()}


def _race(rates: dict[int, int], counts: dict[int, int], places: int) -> dict[int, int]:
    """Return, for each class of equal sites, the probability that one of them is among the first `places` met."""
    total = sum(rate * counts[weight] for weight, rate in rates.items())
    # at this distance hardly anything is met yet, and each step doubles it
    travelled = {weight: (rate * places << (_BITS - 8)) // total for weight, rate in rates.items()}
    unmet = {weight: _exp_minus(distance) for weight, distance in travelled.items()}
    met = dict.fromkeys(rates, 0)
    while True:
        room = _room_without_one(unmet, counts, places)
        for weight in met:
            met[weight] += ((travelled[weight] * unmet[weight] >> _BITS) * room[weight] >> _BITS) * _LN2 >> _BITS
        if max(room.values()) < _ONE >> 20 or max(unmet.values()) < _ONE >> 20:
            return _adding_up(met, counts, places)
        travelled = {weight: 2 * distance for weight, distance in travelled.items()}
        unmet = {weight: chance * chance >> _BITS for weight, chance in unmet.items()}


def _adding_up(met: dict[int, int], counts: dict[int, int], places: int) -> dict[int, int]:
    """Return the probabilities scaled to add up to the number of places, which offsets the start at a distance."""
    total = sum(share * counts[weight] for weight, share in met.items())
    return {weight: min(share * places * _ONE // total, _ONE - (_ONE >> 20)) for weight, share in met.items()}


def _room_without_one(unmet: dict[int, int], counts: dict[int, int], places: int) -> dict[int, int]:
    """Return, for each class, the probability that fewer than `places` have been met, leaving out one of its sites."""
    classes = list(unmet)
    without_one, whole = {}, {}
    for weight in classes:
        chances = [_ONE] + [0] * (places - 1)
        for _ in range(counts[weight] - 1):
            chances = _one_more(chances, unmet[weight])
        without_one[weight], whole[weight] = chances, _one_more(chances, unmet[weight])
    after: dict[int, list[int]] = {}
    later = [_ONE] + [0] * (places - 1)
    for weight in reversed(classes):
        after[weight] = later
        later = _both(later, whole[weight])
    room = {}
    before = [_ONE] + [0] * (places - 1)
    for weight in classes:
        room[weight] = sum(_both(_both(before, without_one[weight]), after[weight]))
        before = _both(before, whole[weight])
    return room


def _one_more(chances: list[int], unmet: int) -> list[int]:
    """Return the chances of having met 0, 1, … sites, after adding one that is unmet with that probability."""
    met = _ONE - unmet
    missed = [chance * unmet for chance in chances]
    return [missed[0] >> _BITS] + [
        (chance + earlier * met) >> _BITS for chance, earlier in zip(missed[1:], chances, strict=False)
    ]


def _both(one: list[int], other: list[int]) -> list[int]:
    """Return the chances of having met 0, 1, … sites of two groups together."""
    return [sum(one[i] * other[met - i] for i in range(met + 1)) >> _BITS for met in range(len(one))]


def _exp_minus(x: int) -> int:
    """Return exp(-x) for a small x."""
    term = total = _ONE
    for divisor in range(1, 16):
        term = -(term * x >> _BITS) // divisor
        total += term
    return total


def _minus_log(y: int) -> int:
    """Return -ln y for 0 < y <= 1. Apart from powers of two, ln y = 2 artanh((y - 1) / (y + 1))."""
    halvings = _BITS + 1 - y.bit_length()
    y <<= halvings
    z = ((y - _ONE) << _BITS) // (y + _ONE)
    square, power, total = z * z >> _BITS, z, 0
    for odd in range(1, 41, 2):
        total += power // odd
        power = power * square >> _BITS
    return halvings * _LN2 - 2 * total
