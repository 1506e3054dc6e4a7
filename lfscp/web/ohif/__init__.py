"""OHIF, a viewer of others: installs its package in the data folder, and serves it at a port."""
