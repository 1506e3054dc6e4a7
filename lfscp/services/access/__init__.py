"""Who may associate, and who may do what."""
