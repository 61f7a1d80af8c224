"""The service: head stage over gRPC, the Flower ServerApp."""
