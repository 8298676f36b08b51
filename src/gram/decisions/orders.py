"""In which orders the options of a question are shown. Knows numbers only.

A model prefers some places whatever stands there. So the orders that are asked are a set with two
properties: turned round as a whole it is the same set, so that a client who lists the options backwards gets
the same answer; and every option stands as early as it stands late, so that a preference that grows from
the first place to the last cancels. With all 2k of them each option stands twice at each place, and any
preference of places cancels.
"""

from __future__ import annotations

from gram.errors import ConfigError

ORDERS = 2
"""How many orders of the options a model is asked where nobody says otherwise."""

Order = tuple[int, ...]


def orders_of(options: int, count: int = ORDERS) -> list[Order]:
    """At most ``count`` orders of ``options`` >= 2 options: for each place, the option that stands there.

    They are rotations of the list, and of the list turned round; there are 2 of two options, 2k of k.

    Args:
        count: 1, the order as it is given, or an even number.

    Raises:
        ConfigError: another count. Of an odd number of orders one would lack its reverse.

    Example:
        >>> orders_of(3)
        [(0, 1, 2), (2, 1, 0)]
        >>> orders_of(4, 4)
        [(0, 1, 2, 3), (3, 2, 1, 0), (2, 3, 0, 1), (1, 0, 3, 2)]
    """
    check_orders(count)
    places = range(options)
    if count == 1:
        return [tuple(places)]
    shifts = _shifts(options, min(count // 2, options if options > 2 else 1))
    forward = [tuple((place + shift) % options for place in places) for shift in shifts]
    return [order for one in forward for order in (one, tuple(options - 1 - option for option in one))]


def check_orders(count: int) -> None:
    """Refuse a number of orders that is neither 1 nor even.

    Raises:
        ConfigError: naming it.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1 or (count > 1 and count % 2):
        raise ConfigError(
            f"orders must be 1, which leaves the preference for places in, or an even number, got {count}: "
            "each order is asked with its reverse"
        )


def _shifts(options: int, count: int) -> list[int]:
    """``count`` rotations, evenly apart, and with each its opposite.

    Where that needs a half turn and there is none (an even count of an odd number), all are half a step on.
    """
    first = 0.5 if count % 2 == 0 and options % 2 else 0.0
    turns = [(place + first) * options / count for place in range(count)]
    near = [int(turn + 0.5) if turn <= options / 2 else -int(options - turn + 0.5) for turn in turns]
    return [shift % options for shift in near]
