"""Changes attributes of objects by rules, and keeps in the object what they were."""
