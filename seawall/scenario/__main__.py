"""Print the JSON Schema of scenario files: `python -m seawall.scenario > scenarios/schema.json`."""

from __future__ import annotations

import sys

from seawall.scenario.schema import schema_text

if __name__ == "__main__":
    sys.stdout.write(schema_text())
