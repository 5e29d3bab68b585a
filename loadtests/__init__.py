"""The load generator: Locust as an open-loop executor of a plan. Runs in a process of its own."""
