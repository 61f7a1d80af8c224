"""The networks that studies use, one file each."""
