"""What the commands run: a replica, its agent alone, a check; and what CHP's flags become."""
