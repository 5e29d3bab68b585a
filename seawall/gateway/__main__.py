"""`python -m seawall.gateway`: one worker."""

from seawall.gateway.serve import main

if __name__ == "__main__":
    raise SystemExit(main())
