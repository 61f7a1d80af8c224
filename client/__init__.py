"""The device: the encoder stage, its data, its defences and the Flower ClientApp."""
