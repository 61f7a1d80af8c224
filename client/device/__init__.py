"""The thin device: an exported encoder that streams activations, without torch.

Only the standard library, numpy, grpc, google.protobuf, onnxruntime, `wireleak.common.wire` and `wireleak.common.words`
are imported here, and Pillow where a picture must be decoded.
"""
