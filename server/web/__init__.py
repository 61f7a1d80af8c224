"""The gateway: the service's web page, and gRPC-web for browsers in front of the head."""
