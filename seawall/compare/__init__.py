"""Systems side by side: the same scenarios, seeds and faults for each, and what each costs."""
