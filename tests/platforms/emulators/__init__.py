"""Small programs that stand for those of other systems, made after their public source; run as real children.

They keep to the standard library: a test starts hundreds of them.
"""
