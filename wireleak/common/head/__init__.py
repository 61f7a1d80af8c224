"""A client's link to the head of a split network, for honest clients and for malicious ones."""
