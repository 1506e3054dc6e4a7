"""What the node says of itself: to people, to machines that watch it, and as events."""
