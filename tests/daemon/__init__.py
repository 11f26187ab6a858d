"""The daemon on a fake platform, with a stepped clock."""
