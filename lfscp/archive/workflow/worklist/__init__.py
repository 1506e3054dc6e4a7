"""The modality worklist in the index: its items, and which of them a query finds."""
