"""The scenario language: load files, find them, and say everything that is wrong with them."""

from __future__ import annotations

from seawall.scenario.find import find, validate_paths
from seawall.scenario.loader import Loaded, load_scenario, load_text
from seawall.scenario.model import PROVIDERS, Scenario
from seawall.scenario.problems import Problem, ScenarioError
from seawall.scenario.schema import json_schema

__all__ = [
    "PROVIDERS",
    "Loaded",
    "Problem",
    "Scenario",
    "ScenarioError",
    "find",
    "json_schema",
    "load_scenario",
    "load_text",
    "validate_paths",
]
