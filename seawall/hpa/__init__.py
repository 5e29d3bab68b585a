"""The HorizontalPodAutoscaler as a model: what the real controller would decide, computed anywhere."""

from __future__ import annotations

from seawall.hpa.algorithm import sync
from seawall.hpa.model import Behavior, ControllerOptions, Decision, HpaSpec, Memory, PodView, Policy, ScalingRules

__all__ = [
    "Behavior",
    "ControllerOptions",
    "Decision",
    "HpaSpec",
    "Memory",
    "PodView",
    "Policy",
    "ScalingRules",
    "sync",
]
