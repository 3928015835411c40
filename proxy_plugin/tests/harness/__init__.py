"""What the tests start and stop: real programs on loopback, on ports that the system chose."""
