"""Where a scenario is carried out: on the wire, among real processes; in simulation; in a cluster."""
