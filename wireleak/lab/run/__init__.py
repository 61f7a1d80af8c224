"""A run's folder: its layout, its ground truth, its results, and how a finished one is opened."""
