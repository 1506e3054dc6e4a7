"""Makes what several tests share importable: pytest puts this file's folder on the path."""
