"""etcd as the store of the routing table: its client, over etcd's HTTP gateway, and its users."""
