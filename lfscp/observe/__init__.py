"""What a running node lets others see: the ordinary log, and what systemd is told."""
