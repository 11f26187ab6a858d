"""What to try in a measurement of a path, and what follows from it; keepaliveD/measuring carries it out."""
