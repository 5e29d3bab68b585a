"""From a journal to a verdict: pure functions, each check with its evidence."""
