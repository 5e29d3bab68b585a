"""A generator of journals: a small model of a router under faults, written as the lines that a real run writes."""

from __future__ import annotations

import heapq
import random
from pathlib import Path
from typing import Any

import msgspec

from router.events import Attempt, BreakerChange, Skip
from seawall.journal.events import (
    VERSION,
    CallRecord,
    End,
    Fault,
    Header,
    JournalEvent,
    Lag,
    Note,
    Process,
    RequestRecord,
)

BASE_NS = 1_000_000_000_000
WALL = 1_767_225_600.0
CHAIN: tuple[str, ...] = ("gemini", "claude", "openai", "local")
MODELS = {"gemini": "gemini-2.5-flash", "claude": "claude-haiku-4-5", "openai": "gpt-4o-mini", "local": "llama3"}
SCENARIO = """\
version: 1
title: Gemini goes dark for 15 s; traffic moves to Claude and comes back
tags: [failover, breaker, ci]
arenas: [simulation, wire]
seed: 7
system: {gateway: seawall, settings: {CIRCUIT_BREAKER_RECOVERY_TIMEOUT: 5s}}
load: {executor: constant-arrival-rate, rate: 20/s, duration: 60s, stream: 30%}
steady_state: {window: 5s, success_rate: ">= 99%", latency_p99: "< 2s"}
faults:
  - {id: dark, at: 8s, duration: 15s, target: gemini, toxic: {type: timeout, attributes: {timeout: 0}}}
expect:
  sometimes:
    - {breaker: gemini, reaches: open}
    - {served_by: claude, requests: ">= 20"}
  eventually:
    - {breaker: gemini, state: closed, within: 8s, after: dark}
  thresholds:
    - {metric: success_rate, limit: ">= 99.9%"}
    - {metric: latency_p99, during: dark, limit: "< 1500ms", severity: advisory}
"""


class Spell(msgspec.Struct, frozen=True, kw_only=True):
    """One fault of the generator, seconds after the start of the load. `kind`: `dark` hangs, `throttle` answers 429."""

    id: str
    at_s: float
    duration_s: float
    target: str
    kind: str = "dark"
    description: str = "toxic timeout (timeout 0 ms, downstream)"


DARK = Spell(id="dark", at_s=8.0, duration_s=15.0, target="gemini")
THROTTLE = Spell(
    id="throttle", at_s=33.0, duration_s=5.0, target="claude", kind="throttle", description="respond 429 (50 %)"
)


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """What to generate."""

    requests: int = 1200
    duration_s: float = 60.0
    seed: int = 7
    spells: tuple[Spell, ...] = (DARK,)
    killed: bool = False
    """Leave out `end`, and everything after two thirds of the load."""
    cut: int = 0
    """How many requests of the fault's time end cut."""
    unmet: bool = False
    """Whether the fault never becomes active."""
    lag_ms: float = 1.2
    hostile: str = ""
    """Text put wherever somebody else's words may stand."""
    scenario: str = SCENARIO
    title: str = "Gemini goes dark for 15 s; traffic moves to Claude and comes back"
    scenario_name: str = "gemini-dark"
    run: str = "gemini-dark-7-wire"
    workers: int = 1
    observes: tuple[str, ...] = ("request", "call", "attempt", "breaker", "spend")


class _World:
    """The router's model: breakers that open after three failures, providers that a spell makes hang or throttle."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.random = random.Random(recipe.seed)
        self.lines: list[tuple[int, JournalEvent]] = []
        self.failures: list[tuple[float, str]] = []  # (when known, provider), a heap
        self.streak = dict.fromkeys([*CHAIN], 0)
        self.opened: dict[str, float] = {}
        self.probing: dict[str, list[tuple[float, float]]] = {provider: [] for provider in CHAIN}
        self.generation = dict.fromkeys([*CHAIN], 0)

    def add(self, at_s: float, event: JournalEvent) -> None:
        self.lines.append((ns(at_s), event))

    def change(self, at_s: float, provider: str, before: str, after: str, cause: str) -> None:
        self.generation[provider] += 1
        self.add(
            at_s,
            BreakerChange(
                worker="gateway-1",
                provider=provider,
                from_state=before,
                to=after,
                generation=self.generation[provider],
                cause=cause,
            ),
        )

    def settle(self, now_s: float) -> None:
        """Let the failures known by now open breakers."""
        while self.failures and self.failures[0][0] <= now_s:
            at_s, provider = heapq.heappop(self.failures)
            self.streak[provider] += 1
            if self.streak[provider] == 3 and provider not in self.opened:
                self.opened[provider] = at_s
                self.change(at_s, provider, "closed", "open", "3 consecutive failures")

    def is_closed_to(self, provider: str, at_s: float) -> bool:
        """Whether nobody may call `provider`: its breaker is open, or a probe is under way."""
        opened_s = self.opened.get(provider)
        if opened_s is not None and opened_s <= at_s < opened_s + 5.0:
            return True
        return any(start_s <= at_s < end_s for start_s, end_s in self.probing[provider])

    def spell_on(self, provider: str, at_s: float) -> Spell | None:
        if self.recipe.unmet:
            return None
        for spell in self.recipe.spells:
            if spell.target == provider and spell.at_s + 0.05 <= at_s < spell.at_s + spell.duration_s:
                return spell
        return None

    def request(self, n: int, at_s: float) -> None:
        """Play one request through the chain."""
        request_id = f"{n:06d}"
        stream = self.random.random() < 0.3
        sent_s = at_s + 0.001
        now_s = sent_s
        number, winner, first_s = 0, None, None
        for provider in CHAIN:
            reason = "preferred" if number == 0 and provider == "gemini" else "failover"
            self.settle(now_s)
            if self.is_closed_to(provider, now_s):
                skip = Skip(request_id=request_id, provider=provider, reason="breaker_open", worker="gateway-1")
                self.add(now_s, skip)
                continue
            if self.opened.get(provider, now_s) < now_s:
                reason = "probe"
                self.change(now_s, provider, "open", "half_open", "recovery timeout over")
            number += 1
            ok, first_s, end_s = self.attempt(request_id, number, provider, stream, now_s, reason)
            if reason == "probe":
                self.probing[provider].append((now_s, end_s))
                if ok:
                    del self.opened[provider]
                    self.streak[provider] = 0
                    self.change(end_s, provider, "half_open", "closed", "probe succeeded")
                else:
                    self.opened[provider] = end_s
                    self.change(end_s, provider, "half_open", "open", "probe failed")
            elif ok:
                self.streak[provider] = 0
            else:
                heapq.heappush(self.failures, (end_s, provider))
            now_s = end_s
            if ok:
                winner = provider
                break
        self.finish(request_id, at_s, sent_s, first_s, now_s, winner, stream)

    def attempt(
        self, request_id: str, number: int, provider: str, stream: bool, at_s: float, reason: str
    ) -> tuple[bool, float | None, float]:
        """Write `attempt` and `call`; return whether it answered, when its first byte came and when it ended."""
        spell = self.spell_on(provider, at_s)
        token_s = 0.08 * self.random.lognormvariate(0, 0.4)
        first_s: float | None = at_s + token_s
        end_s = at_s + token_s + 0.16
        ok, status, error = True, 200, None
        if spell is not None and spell.kind == "dark":
            ok, status, error, first_s, end_s = False, None, "first_byte_timeout", None, at_s + 1.0
        elif spell is not None and self.random.random() < 0.5:
            ok, status, error, end_s = False, 429, "rate_limited", at_s + 0.01
        self.add(
            end_s,
            Attempt(
                request_id=request_id,
                provider=provider,
                model=MODELS[provider],
                n=number,
                stream=stream,
                start_ns=ns(at_s),
                end_ns=ns(end_s),
                first_byte_ns=None if first_s is None else ns(first_s),
                outcome="ok" if ok else "failed",
                reason=reason,
                error=None if ok else (error or "") + self.recipe.hostile,
                status=status,
                worker="gateway-1",
                generation=self.generation[provider],
            ),
        )
        if not (spell is not None and spell.kind == "dark"):
            self.add(
                end_s,
                CallRecord(
                    request_id=request_id,
                    provider=provider,
                    model=MODELS[provider],
                    stream=stream,
                    arrival_ns=ns(at_s + 0.001),
                    first_byte_ns=None if first_s is None else ns(first_s - 0.001),
                    end_ns=ns(end_s - 0.001),
                    behaviour="healthy" if spell is None else spell.id,
                    status=status,
                    bytes=420,
                    completed=True,
                    prompt_tokens=9,
                    completion_tokens=16 if ok else 0,
                ),
            )
        return ok, first_s, end_s

    def finish(
        self,
        request_id: str,
        at_s: float,
        sent_s: float,
        first_s: float | None,
        end_s: float,
        winner: str | None,
        stream: bool,
    ) -> None:
        """Write the client's view of the request."""
        n = int(request_id)
        dark = self.recipe.spells[0] if self.recipe.spells else DARK
        first = int(self.recipe.requests * (dark.at_s + 2) / self.recipe.duration_s)
        cut = first <= n < first + self.recipe.cut
        outcome = "cut" if cut else "whole" if winner else "refused"
        problem = {"cut": "the stream ended after 7 of 16 tokens", "refused": "503 all_clouds_down"}.get(outcome)
        self.add(
            end_s + 0.001,
            RequestRecord(
                request_id=request_id,
                stream=stream or cut,
                intended_ns=ns(at_s),
                sent_ns=ns(sent_s),
                first_byte_ns=ns(first_s) if first_s else None,
                end_ns=ns(end_s + 0.001),
                outcome=outcome,
                status=200 if winner else 503,
                code=None if winner else "all_clouds_down",
                chunks=16 if stream else 1,
                tokens=7 if cut else 16 if winner else 0,
                text_sha256="ab" * 32 if winner else None,
                provider=winner,
                providers_in_text=[winner] if winner else [],
                retry_after_s=None if winner else 4.0,
                problem=None if problem is None else problem + self.recipe.hostile,
                reused=n > 3,
            ),
        )


def ns(at_s: float) -> int:
    """Return the clock reading `at_s` seconds after the start of the load."""
    return BASE_NS + round(at_s * 1e9)


def _fault(spell: Spell, phase: Any, **more: Any) -> Fault:
    return Fault(
        id=spell.id,
        phase=phase,
        target=spell.target,
        description=spell.description,
        planned_at_s=spell.at_s,
        duration_s=spell.duration_s,
        **more,
    )


def _life(world: _World, spell: Spell) -> None:
    world.add(-0.9, _fault(spell, "planned"))
    world.add(spell.at_s, _fault(spell, "injecting"))
    if world.recipe.unmet:
        world.add(spell.at_s + 5, _fault(spell, "healing", error="the probe saw no effect in 5 s"))
    else:
        evidence = {"probe": "no byte of 64 within 1.0 s", "probe_ms": 1000.4, "note": world.recipe.hostile or "plain"}
        world.add(spell.at_s + 0.212, _fault(spell, "active", evidence=evidence))
        world.add(spell.at_s + 0.35, _fault(spell, "met", evidence={"calls": 1}))
        world.add(spell.at_s + spell.duration_s, _fault(spell, "healing"))
    world.add(spell.at_s + spell.duration_s + 0.181, _fault(spell, "healed", evidence={"probe_ms": 12.1}))
    world.add(spell.at_s + spell.duration_s + 0.2, _fault(spell, "undo_verified"))


def _frame(world: _World) -> None:
    recipe = world.recipe
    header = Header(
        run=recipe.run,
        title=recipe.title,
        scenario=recipe.scenario,
        scenario_name=recipe.scenario_name,
        scenario_sha256="c0ffee" * 10 + "0000",
        seed=recipe.seed,
        arena="wire",
        system="seawall",
        commit="0f5f0f9",
        versions={"seawall": "0.1.0", "python": "3.11.7", "toxiproxy": "2.12.0", "locust": "2.47.0"},
        settings={"CIRCUIT_BREAKER_RECOVERY_TIMEOUT": "5", "GEMINI_API_KEY": "***" + recipe.hostile},
        observes=list(recipe.observes),
    )
    world.add(-1.0, header)
    for offset, name in enumerate(("toxiproxy", "emulators", "gateway-1", "locust")):
        pid = 4000 + offset
        world.add(-0.9 + offset / 10, Process(name=name, action="start", pid=pid, version="1.0"))
        world.add(-0.85 + offset / 10, Process(name=name, action="ready", pid=pid))
        if not recipe.killed:
            world.add(recipe.duration_s + 3 + offset / 10, Process(name=name, action="exit", pid=pid, code=0))
    world.add(-0.5, Note(text="toxicity is a connection's, not a request's" + recipe.hostile, level="warning"))
    step = max(recipe.duration_s / 12, 1.0)
    at_s = step
    while at_s <= recipe.duration_s:
        world.add(
            at_s,
            Lag(
                requests=int(recipe.requests * step / recipe.duration_s),
                p50_ms=recipe.lag_ms / 2,
                p99_ms=recipe.lag_ms,
                max_ms=recipe.lag_ms * 2,
                cpu_share=0.07,
            ),
        )
        at_s += step
    if not recipe.killed:
        end = End(
            reason="finished", load_start_ns=ns(0.0), load_end_ns=ns(recipe.duration_s), undone=bool(recipe.spells)
        )
        world.add(recipe.duration_s + 4, end)


def events_of(recipe: Recipe) -> list[tuple[int, JournalEvent]]:
    """Return the events of a run after `recipe`, in order of time."""
    world = _World(recipe)
    _frame(world)
    for spell in recipe.spells:
        _life(world, spell)
    for n in range(recipe.requests):
        world.request(n, n * recipe.duration_s / recipe.requests)
    lines = sorted(world.lines, key=lambda line: line[0])
    if recipe.killed:
        lines = [line for line in lines if line[0] <= ns(recipe.duration_s * 2 / 3)]
    return lines


def write_run(folder: Path, recipe: Recipe) -> Path:
    """Write `journal.jsonl` of a run after `recipe` into `folder` (made when missing) and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    encode = msgspec.json.Encoder().encode
    with (folder / "journal.jsonl").open("wb") as journal:
        for seq, (mono_ns, event) in enumerate(events_of(recipe)):
            wall = round(WALL + (mono_ns - BASE_NS) / 1e9, 6)
            head = {"v": VERSION, "mono_ns": mono_ns, "wall": wall, "source": "harness-1", "seq": seq}
            journal.write(encode(head)[:-1] + b"," + encode(event)[1:] + b"\n")
    return folder
