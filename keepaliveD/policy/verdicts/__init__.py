"""Verdicts: what a scan shows of each connection, and what becomes of it; judge.py is all of it."""
