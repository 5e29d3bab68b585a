"""The chaos page of Locust's web UI, and its tabs."""

from __future__ import annotations

from loadtests.chaos.pages import attach_pages

__all__ = ["attach_pages"]
