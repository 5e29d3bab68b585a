"""`python -m seawall`: the `seawall` command."""

from seawall.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
