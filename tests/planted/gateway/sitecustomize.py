"""
Read by every Python process of a run on the wire, by way of PYTHONPATH: plants the bug in the gateway's alone.

The harness, the emulators and whoever judges stay as they are.
"""

from __future__ import annotations

import os
import sys

_GATEWAY = "seawall.gateway"

if _GATEWAY in sys.orig_argv and os.environ.get("SEAWALL_PLANT_GATEWAY"):
    from planting import sow

    sow(os.environ["SEAWALL_PLANT_GATEWAY"])
