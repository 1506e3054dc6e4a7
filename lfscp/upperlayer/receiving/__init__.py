"""What becomes of P-DATA that comes in."""
