"""`python -m seawall.gateway`: one worker."""

from __future__ import annotations

from seawall.gateway.serve import main

if __name__ == "__main__":
    raise SystemExit(main())
