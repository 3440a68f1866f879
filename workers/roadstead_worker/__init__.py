"""What runs on the machines that serve: the node agent, the head agent, and the Ray Serve replica with its engines."""
