"""The adversary: the tap, the wire decoders, the attacks, the malicious server and the malicious participant."""
