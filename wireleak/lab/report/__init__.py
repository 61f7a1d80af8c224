"""The report: findings, comparisons, and the page."""
