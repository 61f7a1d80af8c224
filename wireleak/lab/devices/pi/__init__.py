"""An emulated Raspberry Pi: a Debian arm64 system, built once, that `qemu-system-aarch64` boots for a job.

`recipe` says what the system holds, `system` builds and caches it, `initramfs` makes its first file system, `machine`
boots it with a job and returns what the job wrote. The emulator records the device's wire at its network card.
"""
