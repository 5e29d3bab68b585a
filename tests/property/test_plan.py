"""The plan: whatever state the providers are in, who is asked, in what order, and why nobody else is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from router.capabilities import CAPABILITIES, lacking
from router.catalogue import Choice
from router.errors import RequestError, SecurityError
from router.models import FAILOVER_CHAIN, ModelType
from router.plan import CLEAR, Ask, ProviderView, Route, order, plan
from router.settings import Settings
from router.transport import Timeouts

CATALOGUE = Settings().catalogue()
TIMES = {provider: Timeouts(connect_s=1.0, first_byte_s=2.0, idle_s=3.0) for provider in ModelType}

seconds = st.just(0.0) | st.floats(0.01, 100.0)


@st.composite
def provider_views(draw: st.DrawFn) -> ProviderView:
    """Return a strategy for how one provider stands, as `ProviderHealth.view` may tell it."""
    allows, is_slow = draw(st.booleans()), draw(st.booleans())
    return ProviderView(
        has_key=draw(st.sampled_from([True, True, True, False])),
        breaker_allows=allows,
        is_probe=draw(st.booleans()) if allows else True,
        available_in_s=0.0 if allows else draw(seconds),
        cooling_s=draw(st.just(0.0) | seconds),
        is_slow=is_slow,
        may_measure=is_slow and draw(st.booleans()),
    )


@st.composite
def asks(draw: st.DrawFn) -> Ask:
    """Return a strategy for what is asked."""
    names = ["gemini", "claude", "openai", "local", "gpt-4o", "claude-haiku"]
    fast = draw(st.none() | st.sampled_from(["claude-haiku", "local"]))
    return Ask(
        choice=CATALOGUE.resolve(draw(st.sampled_from(names)), "llama3"),
        named=draw(st.booleans()),
        airgap=draw(st.sampled_from([False, False, True])),
        local_model="llama3",
        catalogue=CATALOGUE,
        timeouts=TIMES,
        fast=None if fast is None else CATALOGUE.resolve(fast, "llama3"),
        needs=frozenset(draw(st.just(()) | st.lists(st.sampled_from(sorted(CAPABILITIES)), max_size=2))),
    )


views = st.fixed_dictionaries({provider: provider_views() for provider in ModelType})


def planned(ask: Ask, found: dict[ModelType, ProviderView]) -> Route | None:
    """Return the route, None where the plan refuses the request as the rules want it."""
    try:
        return plan(ask, found)
    except SecurityError:
        assert ask.airgap
        assert ask.named
        assert ask.choice.provider.is_cloud
    except RequestError:
        assert ask.needs
    return None


@given(asks(), views)
def test_every_provider_is_asked_or_has_its_reason(ask: Ask, found: dict[ModelType, ProviderView]) -> None:
    """Each provider is a step or a skip; both only for `slow`, and each reason is true."""
    route = planned(ask, found)
    if route is None:
        return
    steps = [step.provider for step in route.steps]
    reasons = {skip.provider: skip.reason for skip in route.skips}
    assert len(set(steps)) == len(steps)
    assert len(reasons) == len(route.skips)
    assert {*steps, *reasons} == set(ModelType)
    assert {provider for provider in reasons if reasons[provider] == "slow"} == set(steps) & set(reasons)
    for provider, reason in reasons.items():
        view = found[provider]
        true = {
            "airgap": ask.airgap and provider.is_cloud,
            "no_key": not view.has_key,
            "unsupported": bool(ask.needs),
            "cooling_down": view.cooling_s > 0,
            "breaker_open": not view.breaker_allows,
            "slow": view.is_slow and not view.may_measure,
        }
        assert true[reason], (provider, reason)


@given(asks(), views)
def test_whoever_is_asked_may_be_asked(ask: Ask, found: dict[ModelType, ProviderView]) -> None:
    """No step goes to a provider without a key, in a pause, behind its breaker, or in the cloud under the air gap."""
    route = planned(ask, found)
    for step in route.steps if route is not None else ():
        view = found[step.provider]
        assert view.is_usable
        assert not (ask.airgap and step.provider.is_cloud)
        assert not lacking(step.provider, step.model, ask.needs)
        assert step.timeouts is TIMES[step.provider]


@given(asks(), views)
def test_order_is_the_chain_with_the_slow_ones_last(ask: Ask, found: dict[ModelType, ProviderView]) -> None:
    """The preferred provider leads and the rest keep chain order, whatever state anybody is or was in."""
    route = planned(ask, found)
    if route is None:
        return
    asked = [step.provider for step in route.steps if step.reason != "slow"]
    late = [step.provider for step in route.steps if step.reason == "slow"]
    assert [step.provider for step in route.steps] == asked + late
    chain = list(order(ask.choice.provider))
    first = found[ask.choice.provider]
    takes_over = ask.fast is not None and first.is_slow and not first.may_measure
    if takes_over and ask.fast is not None and ask.fast.provider in asked:
        assert asked[0] is ask.fast.provider
        asked = asked[1:]
    for some in (asked, late):
        assert some == [provider for provider in chain if provider in some] or takes_over


@given(st.sampled_from(list(ModelType)))
def test_preference_moves_one_provider_only(first: ModelType) -> None:
    """The chain with a preference is a permutation that keeps the others where they are."""
    chain = order(first)
    assert chain[0] is first
    assert [provider for provider in chain if provider is not first] == [p for p in FAILOVER_CHAIN if p is not first]


@given(asks(), views)
def test_the_plan_is_pure(ask: Ask, found: dict[ModelType, ProviderView]) -> None:
    """Asked again, also after another request, it decides the same."""
    first = planned(ask, found)
    planned(Ask(**{name: getattr(ask, name) for name in ask.__struct_fields__} | {"choice": _other(ask.choice)}), found)
    assert planned(ask, found) == first


def _other(choice: Choice) -> Choice:
    return CATALOGUE.resolve("local" if choice.provider.is_cloud else "gemini", "llama3")


@given(asks(), views)
def test_every_step_says_why(ask: Ask, found: dict[ModelType, ProviderView]) -> None:
    """Slow and late, a probe, a measuring call, the preferred one, or its turn in the chain: the first that is true."""
    route = planned(ask, found)
    for step in route.steps if route is not None else ():
        view = found[step.provider]
        truths = {
            "slow": view.is_slow and not view.may_measure,
            "probe": view.is_probe,
            "measure": view.is_slow,
            "preferred": step.provider is ask.choice.provider,
            "chain": True,
        }
        assert step.reason == next(why for why, is_true in truths.items() if is_true)


@hypothesis_settings(max_examples=400, deadline=None)
@given(asks(), views)
def test_the_fast_model_leads_only_for_a_slow_preferred_provider(
    ask: Ask, found: dict[ModelType, ProviderView]
) -> None:
    """The model of each step is the one asked for at that provider; at the fast one, while it leads, the fast one."""
    route = planned(ask, found)
    first = found[ask.choice.provider]
    fast = ask.fast if ask.fast is not None and ask.fast.provider is not ask.choice.provider else None
    leads = fast is not None and first.is_slow and not first.may_measure
    for step in route.steps if route is not None else ():
        choice = fast if leads and fast is not None and step.provider is fast.provider else ask.choice
        assert step.model == CATALOGUE.model_at(step.provider, choice, ask.local_model)


@hypothesis_settings(max_examples=400, deadline=None)
@given(asks(), views)
def test_a_request_that_nobody_can_answer_is_refused_by_name(ask: Ask, found: dict[ModelType, ProviderView]) -> None:
    """
    It is the request's fault only when everybody is left out for ever and somebody for what it needs.

    Then the words name each of these and what it cannot do; a cloud behind the air gap is named too.
    """
    words, route = "", None
    try:
        route = plan(ask, found)
    except (SecurityError, RequestError) as error:
        words = str(error)
    if ask.airgap and ask.named and ask.choice.provider.is_cloud:
        assert f": {ask.choice.provider} is a cloud" in words
    elif route is None:
        for provider in ModelType:
            view = found[provider]
            away = (ask.airgap and provider.is_cloud) or not view.has_key
            unable = lacking(provider, CATALOGUE.model_at(provider, ask.choice, ask.local_model), ask.needs)
            assert away or unable or ask.fast is not None
            if not away and unable and ask.fast is None:
                assert f"{provider} cannot do {', '.join(unable)}" in words
    else:
        lasting = {"airgap", "no_key", "unsupported"}
        reasons = [skip.reason for skip in route.skips]
        assert route.steps or not set(reasons) <= lasting or "unsupported" not in reasons


@given(st.sampled_from(["gpt-4o", "openai", "local", "gemini"]), st.booleans())
def test_the_fast_model_goes_before_the_chain(preferred: str, may_measure: bool) -> None:
    """All others well: the fast model, the rest of the chain, the slow one; or all as ever while it is measured."""
    choice, fast = CATALOGUE.resolve(preferred, "llama3"), CATALOGUE.resolve("claude-haiku", "llama3")
    ask = Ask(
        choice=choice,
        named=True,
        airgap=False,
        local_model="llama3",
        catalogue=CATALOGUE,
        timeouts=TIMES,
        fast=fast,
    )
    slow = ProviderView(
        has_key=True,
        breaker_allows=True,
        is_probe=False,
        available_in_s=0.0,
        cooling_s=0.0,
        is_slow=True,
        may_measure=may_measure,
    )
    route = plan(ask, {provider: slow if provider is choice.provider else CLEAR for provider in ModelType})
    asked = [step.provider for step in route.steps]
    if may_measure:
        assert asked == list(order(choice.provider))
        return
    middle = [p for p in order(choice.provider) if p not in (choice.provider, fast.provider)]
    assert asked == [fast.provider, *middle, choice.provider]
    assert route.steps[0].model == CATALOGUE.model_at(fast.provider, fast, "llama3")
