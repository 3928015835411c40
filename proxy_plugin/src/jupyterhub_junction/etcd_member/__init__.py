"""The upkeep of one etcd member beside it: how it starts, and what it needs while it runs."""
