"""Pictures of stored objects: drawn in processes of their own, kept on disk for a while."""
