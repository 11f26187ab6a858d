"""FreeBSD and DragonFly BSD."""
