"""What the index keeps of the modality workflow: worklist, performed steps, commitments."""
