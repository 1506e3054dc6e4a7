"""C-STORE sub-operations: which presentation contexts they need, and each of them."""
