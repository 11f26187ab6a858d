"""The decider in a world without a kernel: everything follows from one seed."""
