"""Profile the layers of a trained network: the analyst's view."""
