"""What each subcommand of `seawall` does, one module a theme; `seawall.cli` imports them when they are asked for."""
