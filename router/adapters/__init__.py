"""The four providers' wire formats, written by hand on the transport seam."""

from __future__ import annotations

from router.adapters.base import Adapter, LLMProvider, Piece, Prompt, converse, turns
from router.adapters.claude import ClaudeAdapter
from router.adapters.gemini import GeminiAdapter
from router.adapters.ollama import OllamaAdapter
from router.adapters.openai import OpenAIAdapter

__all__ = [
    "Adapter",
    "ClaudeAdapter",
    "GeminiAdapter",
    "LLMProvider",
    "OllamaAdapter",
    "OpenAIAdapter",
    "Piece",
    "Prompt",
    "converse",
    "turns",
]
