"""Attacks on activation gradients: the labels of training batches."""
