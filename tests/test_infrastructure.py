"""
The router as its user meets it: each test is a page of documentation that runs.

    pytest tests/test_infrastructure.py -v                      all of it
    pytest tests/test_infrastructure.py -m "not integration"    what needs no provider: scripted answers, no network
    pytest tests/test_infrastructure.py -m integration          real calls to the providers that the environment names

The integration tests use the keys and addresses of the environment (GEMINI_API_KEY, GEMINI_BASE_URL, …; see
docs/reference/settings.md) and skip a provider that has none. To run them for nothing: `seawall emulate` prints the
variables that lead to emulated providers. In CI they start those themselves.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from router import (
    FAILOVER_CHAIN,
    AllCloudsDownError,
    BudgetExceeded,
    ConfigurationError,
    HybridRouter,
    Message,
    ModelType,
    Request,
    SecurityError,
    Settings,
)
from router.testing import Answering, FakeClock, ScriptedTransport, scripted_router, test_settings
from seawall.commands.emulate import environment_of

DOWN = [Answering(status=503)]
NAMES = {
    ModelType.GEMINI: "GEMINI_API_KEY",
    ModelType.CLAUDE: "ANTHROPIC_API_KEY",
    ModelType.OPENAI: "OPENAI_API_KEY",
    ModelType.LOCAL: "OLLAMA_HOST",
}
providers = pytest.mark.parametrize("provider", list(ModelType))


class TestModels:
    """Who can be asked, and in what order."""

    def test_there_are_four_providers(self) -> None:
        """Three clouds and a local Ollama, each with a name that is also its value."""
        assert [model.value for model in ModelType] == ["gemini", "claude", "openai", "local"]
        assert ModelType("claude") is ModelType.CLAUDE
        assert [model.is_cloud for model in ModelType] == [True, True, True, False]

    def test_the_failover_chain_ends_at_home(self) -> None:
        """The local model is the last resort: it costs nothing and needs no network."""
        assert list(FAILOVER_CHAIN) == [ModelType.GEMINI, ModelType.CLAUDE, ModelType.OPENAI, ModelType.LOCAL]


class TestEnvironment:
    """Settings come from environment variables and `.env`."""

    def test_defaults_need_no_variable(self) -> None:
        """Without any variable the router has these settings."""
        settings = Settings.from_environment({}, dotenv=None)
        assert settings.ollama_host == "http://localhost:11434"
        assert settings.ollama_model == "llama3"
        assert settings.ollama_timeout == 120
        assert settings.circuit_breaker_failure_threshold == 3
        assert settings.circuit_breaker_recovery_timeout == 60
        assert settings.daily_spend_limit_usd == 50
        assert settings.airgap_mode is False

    def test_each_variable_has_its_setting(self) -> None:
        """These are the names; durations may have a unit."""
        settings = Settings.from_environment(
            {
                "GEMINI_API_KEY": "g",
                "ANTHROPIC_API_KEY": "a",
                "OPENAI_API_KEY": "o",
                "GEMINI_BASE_URL": "http://127.0.0.1:9001",
                "OLLAMA_HOST": "http://127.0.0.1:11435",
                "OLLAMA_MODEL": "mistral",
                "OLLAMA_TIMEOUT": "30",
                "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "5",
                "CIRCUIT_BREAKER_RECOVERY_TIMEOUT": "1500ms",
                "AIRGAP_MODE": "True",
            },
            dotenv=None,
        )
        assert [settings.api_key(model).reveal() for model in ModelType] == ["g", "a", "o", ""]
        assert settings.base_url(ModelType.GEMINI) == "http://127.0.0.1:9001"
        assert settings.base_url(ModelType.LOCAL) == "http://127.0.0.1:11435"
        assert (settings.ollama_model, settings.ollama_timeout) == ("mistral", 30)
        assert settings.circuit_breaker_failure_threshold == 5
        assert settings.circuit_breaker_recovery_timeout == 1.5
        assert settings.airgap_mode is True

    def test_a_wrong_value_is_told_at_the_start(self) -> None:
        """All that is wrong comes at once, by the variables' names."""
        wrong = {"OLLAMA_TIMEOUT": "soon", "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "0"}
        with pytest.raises(ConfigurationError) as caught:
            Settings.from_environment(wrong, dotenv=None)
        assert "OLLAMA_TIMEOUT" in str(caught.value)

    def test_keys_do_not_show(self) -> None:
        """A key is in no representation of the settings."""
        settings = Settings.from_environment({"OPENAI_API_KEY": "sk-very-secret"}, dotenv=None)
        assert "sk-very-secret" not in repr(settings) + str(settings.shown())


class TestRouteRequest:
    """`route_request` asks for a text and returns it, whoever wrote it."""

    async def test_the_preferred_model_answers(self) -> None:
        """While nothing is wrong, the first choice is the only one that is asked."""
        transport = ScriptedTransport({"claude": [Answering(text="from Claude")]})
        router = scripted_router(transport)
        assert await router.route_request("Hello?", preferred_model="claude") == "from Claude"
        assert [provider for provider, _ in transport.calls] == ["claude"]

    async def test_the_system_prompt_goes_along(self) -> None:
        """Every provider gets it, the one after a failover too."""
        transport = ScriptedTransport({"gemini": DOWN})
        await scripted_router(transport).route_request("Hello?", "Speak like a pirate.")
        assert [provider for provider, _ in transport.calls] == ["gemini", "claude"]
        assert all(b"Speak like a pirate." in call.body for _, call in transport.calls)

    async def test_a_failure_moves_on_along_the_chain(self) -> None:
        """The preferred provider goes first, the others keep the chain's order."""
        transport = ScriptedTransport({"openai": DOWN, "gemini": DOWN, "claude": DOWN})
        assert await scripted_router(transport).route_request("Hello?", preferred_model="openai") == "ok"
        assert [provider for provider, _ in transport.calls] == ["openai", "gemini", "claude", "local"]

    async def test_a_dead_provider_is_left_alone_and_tried_again(self) -> None:
        """Three failures open its breaker; after the recovery timeout one probe brings it back."""
        clock = FakeClock()
        transport = ScriptedTransport({"gemini": [*DOWN * 3, Answering(text="back")]})
        router = scripted_router(transport, clock=clock)
        for _ in range(10):
            await router.route_request("Hello?")
        assert len(transport.calls_to("gemini")) == 3
        clock.advance(60)
        assert await router.route_request("Hello?") == "back"


class TestHealth:
    """What the router knows of its providers."""

    async def test_health_check_asks_every_provider(self) -> None:
        """One entry a provider: whether it can be reached, and how it has done so far."""
        router = scripted_router(ScriptedTransport({"claude": DOWN}))
        health = await router.health_check()
        assert set(health) == {"gemini", "claude", "openai", "local"}
        assert [health[name]["reachable"] for name in ("gemini", "claude", "local")] == [True, False, True]
        assert health["gemini"]["breaker"] == "closed"
        assert {"latency_ms", "last_error"} <= set(health["gemini"])

    async def test_health_check_leaves_out_who_has_no_key(self) -> None:
        """A provider without a key is not asked; `reachable` is None, neither yes nor no."""
        transport = ScriptedTransport({})
        health = await scripted_router(transport, settings=test_settings(gemini_api_key="")).health_check()
        assert health["gemini"]["reachable"] is None
        assert not transport.calls_to("gemini")

    @pytest.mark.parametrize(("answer", "available"), [(Answering(), True), (DOWN[0], False)])
    async def test_is_local_available(self, answer: Answering, available: bool) -> None:
        """Whether the local Ollama answers, as a plain yes or no."""
        router = scripted_router(ScriptedTransport({"local": [answer]}))
        assert await router.is_local_available() is available


class TestSecurityError:
    """Sovereign mode, `AIRGAP_MODE=True`: nothing leaves the house."""

    @pytest.mark.parametrize("cloud", ["gemini", "claude", "openai", "gpt-4o"])
    async def test_naming_a_cloud_is_an_error(self, cloud: str) -> None:
        """Whoever asks for a cloud by name is refused, rather than quietly served by another model."""
        transport = ScriptedTransport({})
        router = scripted_router(transport, settings=test_settings(airgap_mode=True))
        with pytest.raises(SecurityError):
            await router.route_request("Hello?", preferred_model=cloud)
        assert not transport.calls

    async def test_naming_nobody_means_local(self) -> None:
        """Without a preference the local model answers, and no cloud is called, also when it fails."""
        transport = ScriptedTransport({"local": [Answering(text="from home"), *DOWN]})
        router = scripted_router(transport, settings=test_settings(airgap_mode=True))
        assert await router.route_request("Hello?") == "from home"
        with pytest.raises(AllCloudsDownError):
            await router.route_request("Hello?")
        assert {provider for provider, _ in transport.calls} == {"local"}


class TestBudgetExceeded:
    """The kill switch: `DAILY_SPEND_LIMIT_USD`."""

    async def test_over_the_limit_the_local_model_serves(self) -> None:
        """Paid providers are skipped before they are called, and the free one answers."""
        transport = ScriptedTransport({"local": [Answering(text="for nothing")]})
        router = scripted_router(transport, settings=test_settings(daily_spend_limit_usd=0))
        assert await router.route_request("Hello?") == "for nothing"
        assert [provider for provider, _ in transport.calls] == ["local"]

    async def test_without_a_local_model_it_is_an_error(self) -> None:
        """With nobody left who costs nothing, the caller is told so; no call is made that would cost."""
        transport = ScriptedTransport({"local": DOWN})
        router = scripted_router(transport, settings=test_settings(daily_spend_limit_usd=0))
        for _ in range(3):  # until the local model's breaker is open: then it is not in the chain
            with pytest.raises(AllCloudsDownError):
                await router.route_request("Hello?")
        with pytest.raises(BudgetExceeded) as caught:
            await router.route_request("Hello?")
        assert (caught.value.status, caught.value.code) == (402, "budget_exceeded")
        assert {provider for provider, _ in transport.calls} == {"local"}


class TestAllCloudsDown:
    """Nobody could answer."""

    async def test_it_is_a_system_error_that_says_so(self) -> None:
        """`except SystemError` catches it, its message begins with "All Clouds Down", and every attempt is in it."""
        router = scripted_router(ScriptedTransport(dict.fromkeys(ModelType, DOWN)))
        with pytest.raises(SystemError, match=r"^All Clouds Down") as caught:
            await router.route_request("Hello?")
        error = caught.value
        assert isinstance(error, AllCloudsDownError)
        assert [attempt.provider for attempt in error.attempts] == list(FAILOVER_CHAIN)

    async def test_it_says_when_to_come_back(self) -> None:
        """Once the breakers are open nobody is called any more, and the error has the time to the next probe."""
        transport = ScriptedTransport(dict.fromkeys(ModelType, DOWN))
        router = scripted_router(transport)
        for _ in range(3):
            with pytest.raises(SystemError):
                await router.route_request("Hello?")
        calls = len(transport.calls)
        with pytest.raises(AllCloudsDownError) as caught:
            await router.route_request("Hello?")
        assert caught.value.retry_after_s == pytest.approx(60)
        assert len(transport.calls) == calls


@pytest.fixture(scope="module")
def real_settings() -> Iterator[Settings]:
    """Return the environment's settings; in CI without any key, those of emulators started for it."""
    found = Settings.from_environment()
    if os.environ.get("CI") and not any(found.api_key(model) for model in ModelType):
        with _emulators() as variables:
            yield Settings.from_environment({**os.environ, **variables}, dotenv=None)
    else:
        yield found


@pytest.fixture
async def router(real_settings: Settings) -> AsyncIterator[HybridRouter]:
    """Return a router with these settings."""
    async with HybridRouter(real_settings) as made:
        yield made


@pytest.mark.integration
class TestRealProviders:
    """Real calls, to whatever the environment's keys and addresses lead to."""

    @providers
    async def test_it_answers(self, router: HybridRouter, provider: ModelType) -> None:
        """The provider itself answers a question, and says what it has used."""
        await _need(router, provider)
        reply = await router.complete(_question(provider))
        assert reply.text.strip()
        assert [(attempt.provider, attempt.outcome) for attempt in reply.attempts] == [(provider, "ok")]
        assert reply.usage.completion_tokens > 0

    @providers
    async def test_it_streams(self, router: HybridRouter, provider: ModelType) -> None:
        """The same piece by piece; the last chunk says that it is the last."""
        await _need(router, provider)
        chunks = [chunk async for chunk in router.stream(_question(provider))]
        assert "".join(chunk.text for chunk in chunks).strip()
        assert chunks[-1].provider is provider
        assert chunks[-1].stop_reason is not None

    @providers
    async def test_it_is_reachable(self, router: HybridRouter, provider: ModelType) -> None:
        """`health_check` reaches it with its key."""
        await _need(router, provider)
        assert (await router.health_check())[provider]["reachable"] is True

    async def test_route_request_is_answered_by_somebody(self, router: HybridRouter) -> None:
        """With anybody there at all, a request has its answer."""
        health = await router.health_check()
        if not any(entry["reachable"] for entry in health.values()):
            pytest.skip(f"no provider: set {', '.join(NAMES.values())}, or run `seawall emulate`")
        assert (await router.route_request("Say hello in one word.")).strip()


def _question(provider: ModelType) -> Request:
    return Request(messages=(Message(role="user", content="Say hello in one word."),), model=provider, max_tokens=256)


async def _need(router: HybridRouter, provider: ModelType) -> None:
    """Skip the test when the environment has no such provider."""
    if provider.is_cloud and not router.settings.api_key(provider):
        pytest.skip(f"{provider} has no key: set {NAMES[provider]}, or run `seawall emulate`")
    if not provider.is_cloud and not await router.is_local_available():
        pytest.skip(f"no Ollama at {router.settings.ollama_host}: set {NAMES[provider]}, or run `seawall emulate`")


@contextmanager
def _emulators() -> Iterator[dict[str, str]]:
    """Start the four stand-ins and yield the variables that lead to them."""
    environment = {**os.environ, "SEAWALL_TOKEN": secrets.token_hex()}
    environment.pop("SEAWALL_EVENTS", None)
    command = [sys.executable, "-m", "seawall.emulators", "--providers", ",".join(ModelType)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            yield environment_of(json.loads(process.stdout.readline())["ports"])
        finally:
            process.terminate()
