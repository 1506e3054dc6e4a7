"""A node's life: its processes, its parts, and how they are told to change or to end."""
