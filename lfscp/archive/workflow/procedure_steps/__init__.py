"""Performed procedure steps in the index, and what each must hold."""
