"""Says what a rule of the configuration means for one object; it does no input or output."""
