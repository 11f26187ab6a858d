"""Numbers only: no clock, no kernel."""
