"""The anti-replay window (R31, R32), against the kernel's cases and a plain set."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from tunnel._fastpath.replay import WINDOW, ReplayVerdict, ReplayWindow
from tunnel.constants import REJECT_AFTER_MESSAGES

OK, DUPLICATE, TOO_OLD, LIMIT = ReplayVerdict
KERNEL_REJECT = 2**64 - 1 - WINDOW - 1  # messages.h has another limit than the paper


class Twin:
    """The rules of R32 with all that was ever seen in a set."""

    def __init__(self, reject_after: int) -> None:
        self.reject_after = reject_after
        self.seen: set[int] = set()
        self.newest = 0

    def verdict(self, counter: int) -> ReplayVerdict:
        if counter >= self.reject_after:
            return LIMIT
        if self.newest - counter > WINDOW:
            return TOO_OLD
        if counter in self.seen:
            return DUPLICATE
        self.seen.add(counter)
        self.newest = max(self.newest, counter)
        return OK


def all_accepted(window: ReplayWindow, counters: Iterable[int]) -> bool:
    verdicts = [window.accept(counter) for counter in counters]
    return all(verdicts)


def test_r32_usable_lag() -> None:
    assert WINDOW == 8128


@pytest.mark.parametrize("reject", [REJECT_AFTER_MESSAGES, KERNEL_REJECT])
def test_r32_kernel_sequence(reject: int) -> None:
    """The order in which the kernel's self test tries its 34 counters."""
    limit = WINDOW + 1  # first distance that is too far
    far = 4 * limit
    sequence = [
        # small numbers, in and out of order
        (0, OK),
        (1, OK),
        (1, DUPLICATE),
        (9, OK),
        (8, OK),
        (7, OK),
        (7, DUPLICATE),
        # the window moves on by its whole size; 2 and up are still inside
        (limit, OK),
        (limit - 1, OK),
        (limit - 1, DUPLICATE),
        (limit - 2, OK),
        (2, OK),
        (2, DUPLICATE),
        # 16 further, 3 has left it
        (limit + 16, OK),
        (3, TOO_OLD),
        (limit + 16, DUPLICATE),
        # a jump past everything seen; lag 8128 is inside, 8129 is not
        (far, OK),
        (far - WINDOW, OK),
        (10, TOO_OLD),
        (far - limit, TOO_OLD),
        (far - limit - 1, TOO_OLD),
        (far - WINDOW + 1, OK),
        (far - WINDOW, DUPLICATE),
        (0, TOO_OLD),
        # the end of the numbers
        (reject, LIMIT),
        (reject - 1, OK),
        (reject, LIMIT),
        (reject - 1, DUPLICATE),
        (reject - 2, OK),
        (reject + 1, LIMIT),
        (reject + 2, LIMIT),
        (reject - 2, DUPLICATE),
        (reject - 3, OK),
        (0, TOO_OLD),
    ]
    assert len(sequence) == 34
    window = ReplayWindow(reject)
    for step, (counter, expected) in enumerate(sequence, 1):
        assert window.verdict(counter) is expected, f"step {step}: {counter}"


# The kernel's six bulk sequences; each is a fresh window.


def test_r32_bulk_upwards_from_1_leaves_0_acceptable_once() -> None:
    window = ReplayWindow()
    assert all_accepted(window, range(1, WINDOW + 1))
    assert window.verdict(0) is OK
    assert window.verdict(0) is DUPLICATE


def test_r32_bulk_upwards_from_2_leaves_1_but_not_0() -> None:
    window = ReplayWindow()
    assert all_accepted(window, range(2, WINDOW + 2))
    assert window.verdict(1) is OK
    assert window.verdict(0) is TOO_OLD


def test_r32_bulk_downwards_to_0() -> None:
    window = ReplayWindow()
    assert all_accepted(window, range(WINDOW, -1, -1))


def test_r32_bulk_downwards_from_one_more_to_1() -> None:
    window = ReplayWindow()
    assert all_accepted(window, range(WINDOW + 1, 0, -1))
    assert window.verdict(0) is TOO_OLD


def test_r32_bulk_downwards_then_one_up_pushes_0_out() -> None:
    window = ReplayWindow()
    assert all_accepted(window, range(WINDOW, 0, -1))
    assert window.verdict(WINDOW + 1) is OK
    assert window.verdict(0) is TOO_OLD


def test_r32_bulk_downwards_with_0_then_one_up() -> None:
    window = ReplayWindow()
    assert all_accepted(window, range(WINDOW, 0, -1))
    assert window.verdict(0) is OK
    assert window.verdict(WINDOW + 1) is OK


def test_r32_counter_0_is_accepted_once() -> None:
    window = ReplayWindow()
    assert window.verdict(0) is OK
    assert window.verdict(0) is DUPLICATE


def test_r31_a_new_window_has_seen_nothing() -> None:
    """A window belongs to one keypair and starts empty with it."""
    first = ReplayWindow()
    assert all_accepted(first, (0, 5, 100_000))
    assert all_accepted(ReplayWindow(), (0, 5, 100_000))


def test_r31_judging_refused_counters_moves_nothing() -> None:
    """What is refused (here: by its number) leaves the window where it was."""
    window = ReplayWindow(reject_after=50_000)
    assert window.accept(20_000)
    for refused in (50_000, 60_000, 2**64 - 1):
        assert window.verdict(refused) is LIMIT
    assert window.verdict(20_000 - WINDOW) is OK
    assert window.verdict(20_000 - WINDOW - 1) is TOO_OLD


def counters(rng: random.Random, newest: int) -> int:
    """A counter that is interesting after `newest`: near an edge, or just near."""
    edge = rng.choice((0, 1, 63, 64, 65, WINDOW - 64, WINDOW, WINDOW + 1, 8191, 8192))
    step = rng.choice((edge, rng.randrange(100), rng.randrange(2 * WINDOW)))
    sign = rng.choice((-1, -1, -1, 1))
    return min(max(newest + sign * step + rng.randrange(-2, 3), 0), 2**64 - 1)


@pytest.mark.parametrize("start", [0, 2**32 - 5000, 2**63 - 5000])
def test_r32_random_counters_equal_a_set(seed: int, start: int) -> None:
    rng = random.Random(seed)
    reject = REJECT_AFTER_MESSAGES
    window, twin = ReplayWindow(reject), Twin(reject)
    assert window.verdict(start) is twin.verdict(start)
    seen: dict[ReplayVerdict, int] = dict.fromkeys(ReplayVerdict, 0)
    for _ in range(20_000):
        counter = counters(rng, twin.newest)
        verdict = window.verdict(counter)
        assert verdict is twin.verdict(counter), counter
        seen[verdict] += 1
    assert min(seen[v] for v in (OK, DUPLICATE, TOO_OLD)) > 100


@pytest.mark.parametrize("reject", [REJECT_AFTER_MESSAGES, KERNEL_REJECT, 2**64 - 1])
def test_r32_random_counters_near_the_limit_equal_a_set(seed: int, reject: int) -> None:
    rng = random.Random(seed)
    window, twin = ReplayWindow(reject), Twin(reject)
    for _ in range(20_000):
        counter = min(max(reject + rng.randrange(-20_000, 20), 0), 2**64 - 1)
        assert window.verdict(counter) is twin.verdict(counter), counter


def test_r32_shuffled_traffic_is_accepted_once(seed: int) -> None:
    """Reordering within the window loses nothing, and a replay of it gains nothing."""
    rng = random.Random(seed)
    order = sorted(range(30_000), key=lambda n: n + rng.randrange(WINDOW // 2))
    window = ReplayWindow()
    assert all_accepted(window, order)
    assert not any(window.accept(counter) for counter in order)


def test_wrong_counters_are_named() -> None:
    window = ReplayWindow()
    for wrong in (-1, 2**64):
        with pytest.raises(ValueError, match="counter"):
            window.accept(wrong)
        with pytest.raises(ValueError, match="reject_after"):
            ReplayWindow(wrong)
    with pytest.raises(TypeError, match="counter"):
        window.accept("1")  # type: ignore[arg-type]
