"""What a running node lets others see: log, metrics, audit trail, and its state for systemd."""
