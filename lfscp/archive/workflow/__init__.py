"""The modality workflow in the index: worklist, performed procedure steps, storage commitment."""
