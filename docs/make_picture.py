"""Draw README's picture from a run's `pictures.npz`: originals, reconstructions, and the mean image."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from wireleak.lab.run.pictures import read_pictures

SCALE, GAP, LABEL, VICTIMS = 3, 6, 330, 10


def main(run: Path, out: Path) -> None:
    """Write the picture to `out`, a PNG file."""
    shown = read_pictures(run)
    first = {(picture.variant, picture.attack): picture for picture in reversed(shown)}
    wide = first["wide", "inversion"]
    rows = [("what the device kept to itself", wide.originals)]
    rows += [
        ("rebuilt from the wire: 3,136 floats", wide.guesses["inversion"]),
        ("rebuilt from the wire: 32 floats", first["narrow", "inversion"].guesses["inversion"]),
        ("under TLS: sizes and times only", first["wide-tls", "inversion"].guesses["inversion"]),
    ]
    side = 28 * SCALE
    picture = Image.new("L", (LABEL + VICTIMS * (side + GAP), len(rows) * (side + GAP)), 255)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(17)
    for number, (label, images) in enumerate(rows):
        top = number * (side + GAP)
        pen.text((LABEL - 14, top + side / 2), label, fill=0, font=font, anchor="rm")
        for column, image in enumerate(images[:VICTIMS, 0]):
            tile = Image.fromarray(np.uint8(255 * (1 - np.clip(image, 0, 1)))).resize(
                (side, side), Image.Resampling.NEAREST
            )
            picture.paste(tile, (LABEL + column * (side + GAP), top))
    picture.save(out, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
