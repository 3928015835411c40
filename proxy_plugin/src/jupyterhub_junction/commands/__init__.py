"""What the commands ``junction`` and ``configurable-http-proxy`` take, and run."""
