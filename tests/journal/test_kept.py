"""Events kept as they are behave as packed ones do: verdicts may not tell the two apart."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from router.events import Attempt
from seawall.journal.kept import Kept
from seawall.journal.packed import Packed

ATTEMPTS = st.lists(
    st.builds(
        Attempt,
        request_id=st.sampled_from(("000001", "000002", "sk-12345678")),
        provider=st.sampled_from(("gemini", "claude")),
        model=st.just("m"),
        n=st.integers(1, 3),
        stream=st.booleans(),
        start_ns=st.integers(0, 20),
        end_ns=st.integers(0, 40),
        outcome=st.sampled_from(("ok", "failed")),
        first_byte_ns=st.none(),
        reason=st.just("chain"),
        error=st.none(),
        status=st.none(),
        worker=st.just("gateway-1"),
        generation=st.just(0),
    ),
    max_size=12,
)
SPANS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=2)


@given(attempts=ATTEMPTS, spans=SPANS)
def test_kept_and_packed_events_read_the_same(attempts: list[Attempt], spans: list[tuple[int, int]]) -> None:
    """Order, places, slices, spans and what holds a word are the same for both."""
    one: Packed[Attempt] = Kept(lambda attempt: attempt.start_ns)
    other: Packed[Attempt] = Packed(Attempt, lambda attempt: attempt.start_ns)
    spans = [(10 * n + min(span), 10 * n + max(span)) for n, span in enumerate(spans)]  # they do not overlap
    read: list[list[object]] = []
    for events in (one, other):
        for attempt in attempts:
            events.append(attempt)
        events.sort(lambda attempt: (attempt.request_id, attempt.n, attempt.provider))
        found = (events, events[1:3], events.within(spans), list(events.containing(re.compile(rb"\bsk-"))))
        read.append([[(a.start_ns, a.request_id, a.n, a.provider) for a in some] for some in found])
        read[-1] += [[len(events)], list(events.moments), [events[n].start_ns for n in range(len(events))]]
    assert read[0] == read[1]
