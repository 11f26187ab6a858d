"""Judgement: pure functions of observations and the time; no clock, no input, no output."""
