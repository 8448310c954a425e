"""The floor of an edit: read both checkpoints once, write one of them once, to the disk itself. No arithmetic."""

import os
import sys
from pathlib import Path


def main(base: Path, harm: Path, output: Path) -> None:
    buffer = memoryview(bytearray(1 << 22))
    output.mkdir()
    for path in sorted(harm.glob("*.safetensors")):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    for path in sorted(base.glob("*.safetensors")):
        with path.open("rb", buffering=0) as file, (output / path.name).open("wb", buffering=0) as copy:
            while size := file.readinto(buffer):
                copy.write(buffer[:size])
            os.fsync(copy.fileno())


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
