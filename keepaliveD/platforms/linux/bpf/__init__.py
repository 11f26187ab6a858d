"""BPF: programs that the kernel runs on its own sockets. Linux 5.15 or later.

They are C (kernel.h, *.bpf.c), compiled when the package is built and fitted to the running kernel by
libbpf; without a compiler at build time there are no object files, and this engine is missing.
"""
