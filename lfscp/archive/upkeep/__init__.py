"""What keeps an archive whole: backup, check, rebuild, retention, scrub."""
