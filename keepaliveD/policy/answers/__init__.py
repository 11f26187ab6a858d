"""What is answered to clients of the control socket."""
