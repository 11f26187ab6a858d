"""The systems' own programs that read and write network settings; each file knows one."""
