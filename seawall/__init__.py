"""Seawall: the gateway, the emulators, and the harness that proves what a gateway does under faults."""
