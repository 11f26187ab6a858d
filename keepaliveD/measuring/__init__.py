"""Measures the idle timeout of a path, with connections of its own; on Linux, without any privilege."""
