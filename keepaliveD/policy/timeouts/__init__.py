"""What scans and ended connections show of the idle timeouts of paths, and the advice that follows."""
