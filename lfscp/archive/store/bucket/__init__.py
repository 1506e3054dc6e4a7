"""Objects in a bucket of S3, and the copies of them on the node's own disk."""
