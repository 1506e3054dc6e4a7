"""What the index keeps of the modality workflow: worklist, procedure steps, storage commitment."""
