"""The journal: append-only events, one format for every arena. Everything after it is a pure function of it."""
