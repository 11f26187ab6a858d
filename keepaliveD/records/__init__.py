"""What must outlive the daemon: the settings found before ours, and what stood in sockets before they were armed."""
