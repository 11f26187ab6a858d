"""The connections of systems without netlink, by what their own programs list."""
