"""Read inputs: pictures, sensor windows, text lines and arrays, from files, a camera or standard input."""
