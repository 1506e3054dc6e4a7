"""The databases that hold the index: their connections, transactions and statements."""
