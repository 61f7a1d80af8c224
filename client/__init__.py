"""The device: encoder stage, its data, its defences, the Flower ClientApp."""
