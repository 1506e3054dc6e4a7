"""Storage commitment in the index: what peers ask of this node, and this node of peers."""
