"""
The router core: send a prompt to Gemini, Claude, OpenAI or a local Ollama, and fail over in order.

    router = HybridRouter()
    text = await router.route_request("What does a seawall do?")
"""

from __future__ import annotations

from router.errors import (
    AllCloudsDownError,
    BudgetExceeded,
    ConfigurationError,
    DeadlineExceeded,
    ProviderError,
    RequestError,
    SeawallError,
    SecurityError,
)
from router.hybrid import HybridRouter
from router.models import FAILOVER_CHAIN, Chunk, Message, ModelType, Reply, Request, Usage
from router.settings import Secret, Settings

__all__ = [
    "FAILOVER_CHAIN",
    "AllCloudsDownError",
    "BudgetExceeded",
    "Chunk",
    "ConfigurationError",
    "DeadlineExceeded",
    "HybridRouter",
    "Message",
    "ModelType",
    "ProviderError",
    "Reply",
    "Request",
    "RequestError",
    "SeawallError",
    "Secret",
    "SecurityError",
    "Settings",
    "Usage",
]
